"""The fraction of noise, and the smoothing that follows from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from stn3d.grid import Grid
from stn3d.preprocessing.noise import noise_fraction, smoothing_factor, without_noise
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from tests.helpers.geometry_cases import DIMS


def noisy(ndim: int, sd: float) -> tuple[Tensor, float]:
    """A texture with noise, and the fraction of its local variance that is noise."""
    shape = (160, 150) if ndim == 2 else (60, 56, 64)
    draws = np.random.default_rng(ndim)
    texture = ndimage.gaussian_filter(draws.standard_normal(shape), 3.0)
    texture = 0.5 + 0.1 * texture / texture.std()
    values = torch.from_numpy(texture + sd * draws.standard_normal(shape)).float()
    windows = texture[tuple(slice(n // 3, n - n // 3) for n in shape)]
    mean, square = (ndimage.uniform_filter(one, 5) for one in (windows, windows**2))
    middle = (slice(2, -2),) * ndim
    local = float(np.median((square - mean**2)[middle]))
    return values[None, None], sd**2 / (sd**2 + local)


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("sd", [0.005, 0.02, 0.05])
def test_the_fraction_is_that_of_the_noise_added(ndim: int, sd: float) -> None:
    values, expected = noisy(ndim, sd)
    assert noise_fraction(values, None, ()) == pytest.approx(expected, rel=0.15, abs=0.01)


def test_a_field_is_smoother_where_both_images_are_noisy() -> None:
    clear, much = (
        PreparedImage(noisy(2, sd)[0], Grid.of_spacing((160, 150))) for sd in (0.002, 0.1)
    )
    assert smoothing_factor(Pair(clear, clear), 1.0) == 1.0
    assert smoothing_factor(Pair(much, much), 1.0) == 2.0
    assert 1.0 < smoothing_factor(Pair(much, clear), 1.0) <= 2.0
    assert smoothing_factor(Pair(much, much), 4.0) == 1.0  # means of voxels are clear


@pytest.mark.parametrize("sd", [0.0, 0.02, 0.04])
def test_the_correlation_in_windows_without_noise(sd: float) -> None:
    grid, draws = Grid.of_spacing((160, 150)), torch.Generator().manual_seed(4)
    texture = noisy(2, 0.0)[0]
    images = [
        PreparedImage(texture + sd * torch.randn(texture.shape, generator=draws), grid)
        for _ in range(2)
    ]
    r = local_correlation(*(image.image for image in images))
    assert without_noise(r, Pair(*images), 1.0) == pytest.approx(1.0, abs=0.06)
    assert without_noise(-r, Pair(*images), 1.0) == pytest.approx(-1.0, abs=0.06)
    assert r < 0.9 or sd < 0.03


def local_correlation(a: Tensor, b: Tensor) -> float:
    """Mean correlation in windows of 5 x 5 pixels."""
    a, b = (one.unfold(2, 5, 5).unfold(3, 5, 5).reshape(-1, 25).double() for one in (a, b))
    a, b = (one - one.mean(1, keepdim=True) for one in (a, b))
    return float(((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean())


def test_without_content_there_is_no_noise() -> None:
    assert noise_fraction(torch.zeros(1, 1, 30, 30), None, ()) == 0.0
    assert noise_fraction(torch.full((1, 1, 30, 30), 0.5), None, ()) == 0.0
    assert noise_fraction(torch.rand(1, 1, 8, 8), None, ()) == 0.0
