"""Correlation, local correlation and RMS difference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stn3d.grid import Grid
from stn3d.losses import lncc, mse, ncc
from stn3d.metrics import (
    image_metrics,
)

RNG_SEED = 7


@pytest.mark.parametrize("d", [2, 3])
def test_image_metrics_read_well_and_are_the_losses(d: int) -> None:
    grid = Grid.of_spacing((12, 11, 9)[:d], (1.0, 2.0, 0.5)[:d])
    rng = np.random.default_rng(RNG_SEED)
    a, b = rng.normal(size=(2, *grid.shape))
    same = {"correlation": 1, "local_correlation": 1, "rms_difference": 0}
    assert image_metrics(a, a, grid) == pytest.approx(same, abs=1e-3)
    assert image_metrics(a, -a + 2, grid)["correlation"] == pytest.approx(-1)
    assert image_metrics(a, a + 2, grid)["rms_difference"] == pytest.approx(2)
    mask = rng.random(grid.shape) > 0.4
    found = image_metrics(a, torch.from_numpy(b)[None, None], grid, mask)
    assert found["correlation"] == pytest.approx(np.corrcoef(a[mask], b[mask])[0, 1], abs=1e-5)
    x, y, w = (torch.from_numpy(v.astype(np.float32))[None, None] for v in (a, b, mask))
    local = lncc(x, y, w, radius_mm=2, spacing_mm=grid.spacing_mm).item()
    assert found["local_correlation"] == pytest.approx(1 - local)
    assert found["rms_difference"] == pytest.approx(math.sqrt(mse(x, y, w).item()))
    assert found["correlation"] == pytest.approx(1 - ncc(x.double(), y.double(), w).item())


def test_image_metrics_by_weights_far_from_zero_and_of_nothing() -> None:
    grid = Grid.of_spacing((12, 11, 9))
    rng = np.random.default_rng(RNG_SEED)
    a, b = rng.normal(size=(2, *grid.shape)) + 4000
    weights = rng.random(grid.shape) * (rng.random(grid.shape) > 0.4)
    found = image_metrics(a, b, grid, weights)
    a, b = a.astype(np.float32).astype(float), b.astype(np.float32).astype(float)
    covariance = np.cov(a.ravel(), b.ravel(), aweights=weights.ravel())
    expected = covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])
    assert found["correlation"] == pytest.approx(expected, rel=1e-5)
    rms = math.sqrt(np.average((a - b) ** 2, weights=weights))
    assert found["rms_difference"] == pytest.approx(rms, rel=1e-6)
    nothing = {"correlation": 0, "local_correlation": 0}
    for mask in (np.zeros(grid.shape), np.zeros(grid.shape, bool)):
        assert image_metrics(a, b, grid, mask).items() >= nothing.items()
    assert image_metrics(a, np.full_like(a, 0.1), grid)["correlation"] == 0
