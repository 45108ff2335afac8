"""The metric is selected once the images are aligned well enough to compare their contrasts."""

from __future__ import annotations

import pytest
import torch

from stn3d.registration.automatic import select_metric
from stn3d.registration.initialisation.candidates import InitialTransform
from stn3d.registration.initialisation.finder import Finder
from stn3d.registration.initialisation.strategies import NetworkEstimate
from tests.registration.test_automatic import NO_CT, a_pair, nearly, recoloured


@pytest.mark.parametrize("off_mm", [4.0, 6.0])
@pytest.mark.parametrize("different", [True, False])
def test_misaligned_images_are_aligned_before_their_contrasts_are_compared(
    off_mm: float, different: bool
) -> None:
    # As T1 and FLAIR: fluid is dark in both, and the two brighter tissues change their order.
    known = a_pair(3)
    curve = (lambda x: torch.where(x < 0.6, 1.5 * x, 1.5 - x)) if different else torch.sqrt
    pair, start = recoloured(known, curve), nearly(known, off_mm)
    network = NetworkEstimate(pair, "rigid", enabled=False)
    finder = Finder(pair, "rigid", (), network)
    candidate = InitialTransform("header", start, 0.0, 1.0)
    assert select_metric(pair, start, finder.comparison_mm, NO_CT).choice == "lncc"
    found = finder.selected_metric(candidate, NO_CT)
    assert found.choice == ("nmi" if different else "lncc")
    if different:  # the evidence is that of the aligned images
        assert found.evidence["nonlinear_variance_fraction"] > 0.9
