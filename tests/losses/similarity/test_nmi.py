"""Normalised mutual information."""

from __future__ import annotations

import pytest
import torch

from stn3d.errors import InputError
from stn3d.losses import nmi
from tests.helpers.images import smooth_image


def test_nmi_ignores_any_map_of_intensities_and_knows_unrelated_images() -> None:
    a = smooth_image((80, 70))
    levels = (a * 7).round() / 7
    swapped = torch.tensor([0.3, 1.0, 0.1, 0.7, 0.0, 0.9, 0.5, 0.2])[(levels * 7).long()].double()
    unrelated = nmi(levels, smooth_image((80, 70), 5)).item()
    assert nmi(levels, swapped).item() < 0.45 < unrelated
    assert unrelated == pytest.approx(1, abs=0.1)
    assert nmi(levels, torch.full_like(a, 0.4)).item() == pytest.approx(1)


def test_nmi_wants_five_bins() -> None:
    with pytest.raises(InputError, match="5 bins"):
        nmi(smooth_image((6, 6)), smooth_image((6, 6)), bins=4)
