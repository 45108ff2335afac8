"""The correlation of whole images."""

from __future__ import annotations

import pytest
import torch

from stn3d.losses import ncc
from tests.helpers.images import SHAPES, noise


def test_ncc_of_a_batch_is_the_mean_over_its_images() -> None:
    a, b = noise(2, 1, 7, 6, seed=1), noise(2, 1, 7, 6, seed=2)
    each = [ncc(a[i : i + 1], b[i : i + 1]).item() for i in range(2)]
    assert ncc(a, b).item() == pytest.approx(sum(each) / 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_known_values(shape: tuple[int, ...]) -> None:
    a, b = noise(1, 1, *shape, seed=1), noise(1, 1, *shape, seed=2)
    pearson = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]
    assert ncc(a, b).item() == pytest.approx(1 - pearson.item())
    assert ncc(a, 2 * a + 5).item() == pytest.approx(0, abs=1e-12)
    assert ncc(a, -a).item() == pytest.approx(2)
