"""Gaussian smoothing and divergence diffusion: SciPy, the reference, regions, invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from stn3d import kernels
from stn3d.kernels import Region, gaussian_smooth
from stn3d.kernels.smooth import reference
from tests.helpers.geometry_cases import random
from tests.kernels.cases import (
    DTYPES,
    REGION_SHAPES,
    SHAPES,
    UNTOUCHED,
    assert_done_in,
    centred,
    ragged,
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [(0.4, 1.0, 1.7), (3.0, 0.0, 0.5), (6.0, 6.0, 6.0)])
def test_gaussian_smooth_equals_scipys_filter(
    shape: tuple[int, ...], sigma: tuple[float, ...]
) -> None:
    sigmas = sigma[: len(shape)]
    image = random(2, 1, *shape, seed=2)
    expected = image.numpy()
    for axis, s in enumerate(sigmas, start=2):
        if s > 0:
            expected = ndimage.gaussian_filter1d(
                expected, s, axis, mode="nearest", radius=max(1, math.ceil(3 * s))
            )
    before = image.clone()
    assert np.allclose(gaussian_smooth(image, sigmas).numpy(), expected, atol=1e-12)
    assert torch.equal(image, before)


def test_a_sigma_below_a_tenth_of_a_voxel_has_no_effect() -> None:
    image = random(1, 1, 5, 6)
    assert torch.equal(gaussian_smooth(image, (0.09, 0.0)), image)


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_smooth_preserves_a_constant_and_the_middle_of_a_ramp(
    shape: tuple[int, ...],
) -> None:
    sigmas = [0.6] * len(shape)
    constant = torch.full((1, 1, *shape), 3.5)
    assert torch.allclose(gaussian_smooth(constant, sigmas), constant, atol=1e-6)
    ramp = torch.arange(9.0).reshape(1, 1, 9, 1).expand(1, 1, 9, 4)
    assert torch.allclose(gaussian_smooth(ramp, (0.6, 0.6))[..., 2:7, :], ramp[..., 2:7, :])


def test_gaussian_smooth_carries_no_gradient() -> None:
    image = random(1, 1, 5, 5).requires_grad_()
    assert not gaussian_smooth(image, (1.0, 1.0)).requires_grad


@pytest.mark.parametrize("shape", REGION_SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sigma", [(0.55, 0.55, 0.55), (1.73, 0.0, 1.0), (4.0, 4.0, 4.0)])
def test_gaussian_smooth_equals_the_reference_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype, sigma: tuple[float, ...]
) -> None:
    d, region = len(shape), ragged(shape)
    image = random(1, d, *shape).to(dtype)
    out = torch.full_like(image, UNTOUCHED)
    assert kernels.gaussian_smooth(image, sigma[:d], region, out) is out
    assert_done_in(region, d, out, reference.gaussian_smooth(image, sigma[:d]))


@pytest.mark.parametrize("shape", REGION_SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_diffuse_divergence_equals_the_reference_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    d, region = len(shape), ragged(shape).without_faces()
    field, weights = random(1, d, *shape).to(dtype), (0.15, 0.1, 0.05)[:d]
    out = torch.full_like(field, UNTOUCHED)
    kernels.diffuse_divergence(field, weights, region, out)
    assert_done_in(
        region,
        d,
        out,
        reference.diffuse_divergence(field, weights, Region.full(shape), torch.empty_like(field)),
    )


def diffused(field: Tensor, times: int = 1) -> Tensor:
    region = Region.full(field.shape[2:]).without_faces()
    for _ in range(times):
        weights = [0.15] * field.shape[1]
        field = kernels.diffuse_divergence(field, weights, region, field.clone())
    return field


@pytest.mark.parametrize("d", [2, 3])
def test_diffuse_divergence_preserves_rotation(d: int) -> None:
    x = centred(d, 11)
    rotating = torch.zeros_like(x)  # faster with distance: its second derivatives are not 0
    rotating[0], rotating[1] = -x[1], x[0]
    rotating = 0.01 * (x**2).sum(dim=0) * rotating[None]
    torch.testing.assert_close(diffused(rotating), rotating)
    assert not torch.allclose(kernels.gaussian_smooth(rotating, [0.55] * d), rotating, atol=1e-3)


@pytest.mark.parametrize("d", [2, 3])
def test_diffuse_divergence_smooths_local_growth(d: int) -> None:
    x = centred(d, 27)
    source = (x * torch.exp(-(x**2).sum(dim=0) / 8))[None]

    def growth(field: Tensor) -> Tensor:
        derivatives = [torch.gradient(field[0, a], dim=a)[0] for a in range(d)]
        return torch.stack(derivatives).sum(dim=0)

    before, after = growth(source), growth(diffused(source, 20))
    assert float(after.max()) < 0.3 * float(before.max())
    assert float(after.min()) > float(before.min())
    assert float(after.sum()) == pytest.approx(float(before.sum()), abs=0.1 * float(before.max()))
