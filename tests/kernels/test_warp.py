"""Warping and its gradient by the matrix: the reference, regions, coverage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from stn3d import kernels
from stn3d.kernels import Region
from stn3d.kernels.warp import reference
from tests.helpers.geometry_cases import random, uniform
from tests.kernels.cases import (
    DTYPES,
    REGION_SHAPES,
    SHAPES,
    UNTOUCHED,
    assert_done_in,
    assert_near,
    ragged,
    strided,
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_warp_equals_the_reference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    d = len(shape)
    image = strided(random(1, 2, *[n + (n > 1) for n in shape])).to(dtype)
    matrix = torch.eye(d + 1).double()
    matrix[:d] += random(d, d + 1, scale=0.1)
    displacement = strided(random(1, d, *shape, seed=1, scale=0.3)).to(dtype)
    close = {"rtol": 1e-4, "atol": 2e-5} if dtype == torch.float32 else {}
    actual = kernels.warp(image, matrix, displacement)
    expected = reference.warp(image, matrix, displacement)
    for mine, its in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, its, **close)


@pytest.mark.parametrize("shape", REGION_SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_warp_equals_the_reference_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    d = len(shape)
    image = random(1, 2, *[n + 1 for n in shape]).to(dtype)
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:-1] += random(d, d + 1, seed=1, scale=0.1)
    field = random(1, d, *shape, seed=2).to(dtype)
    region = ragged(shape)
    out = tuple(torch.full_like(b, UNTOUCHED) for b in kernels.buffers(image, field))
    found = kernels.warp(image, matrix, field, region, out)
    expected = reference.warp(image, matrix, field)
    assert found.moved is out[0]
    assert_done_in(region, d, found.moved, expected.moved)
    assert found.coverage is not None
    assert expected.coverage is not None
    assert_done_in(region, d, found.coverage, expected.coverage)
    whole = kernels.warp(image, matrix, field)
    for mine, its in zip(whole, expected, strict=True):
        assert_near(mine, its)


@pytest.mark.parametrize("d", [2, 3])
def test_coverage_is_given_only_near_the_images_faces(d: int) -> None:
    image, still = random(1, 1, *[9] * d), torch.zeros(1, d, *[5] * d).double()
    inner, shifted = (torch.eye(d + 1, dtype=torch.float64) for _ in range(2))
    inner[:-1, -1], shifted[0, -1] = 2, -1.0
    assert kernels.warp(image, inner, still).coverage is None
    assert kernels.warp(image, shifted, still).coverage is not None
    mask = torch.zeros([5] * d, dtype=torch.bool)
    mask[(slice(2, 4),) * d] = True
    assert kernels.warp(image, shifted, still, Region.of(mask)).coverage is None


@pytest.mark.parametrize("d", [2, 3])
def test_the_nearest_voxel_is_sampled_beyond_the_image(d: int) -> None:
    image, still = random(1, 1, *[9] * d), torch.zeros(1, d, *[9] * d).double()
    far = torch.eye(d + 1, dtype=torch.float64)
    far[0, -1] = 30
    warped = kernels.warp(image, far, still)
    assert_near(warped.moved, image[:, :, -1:].expand_as(image))
    assert warped.coverage is not None
    assert bool((warped.coverage == 0).all())


@pytest.mark.parametrize("shape", REGION_SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fading", [False, True])
def test_warp_gradient_equals_the_reference_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype, fading: bool
) -> None:
    d, region = len(shape), ragged(shape)
    image = random(1, 2, *[n + (n > 1) for n in shape]).to(dtype)
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:-1] += random(d, d + 1, seed=1, scale=0.1)
    field = random(1, d, *shape, seed=2, scale=0.3).to(dtype)
    inside = region.mask(shape)
    by_moved = torch.where(inside, random(1, 2, *shape, seed=3), 0).to(dtype)
    by_coverage = torch.where(inside, random(1, 1, *shape, seed=4), 0).to(dtype)
    gradients = by_moved, by_coverage if fading else None
    expected = reference.warp_gradient(image, matrix, field, *gradients)
    close = {"rtol": 1e-3, "atol": 1e-3} if dtype == torch.float32 else {}
    for where in (None, region):
        found = kernels.warp_gradient(image, matrix, field, *gradients, where)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, **close)


@pytest.mark.parametrize("d", [2, 3])
def test_warp_gradient_equals_finite_differences(d: int) -> None:
    shape = (7, 6, 5)[:d]
    image, still = random(1, 1, *shape), torch.zeros(1, d, *shape).double()
    target, weight = random(1, 1, *shape, seed=1), uniform(0, 1, 1, 1, *shape)
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:-1] += random(d, d + 1, seed=2, scale=0.05)
    matrix[0, -1] = -0.7  # some points are in the outer voxel and beyond

    def loss(matrix: Tensor) -> Tensor:
        moved, coverage = kernels.warp(image, matrix, still)
        assert coverage is not None
        return (weight * coverage * (moved - target) ** 2).sum()

    moved, coverage = kernels.warp(image, matrix, still)
    assert coverage is not None
    by_moved, by_coverage = 2 * weight * coverage * (moved - target), weight * (moved - target) ** 2
    gradient = kernels.warp_gradient(image, matrix, still, by_moved, by_coverage)
    step = 1e-6
    for a, b in np.ndindex(d, d + 1):
        change = torch.zeros_like(matrix)
        change[a, b] = step
        measured = (loss(matrix + change) - loss(matrix - change)) / (2 * step)
        torch.testing.assert_close(gradient[a, b], measured, rtol=1e-5, atol=1e-5)


def test_coverage_falls_to_0_over_the_last_voxel_of_each_axis() -> None:
    at = torch.tensor([-0.6, -0.5, -0.25, 0.0, 0.5, 2.0, 3.5, 4.0, 4.4, 4.5, 9.0]).double()
    along = torch.tensor([0, 0, 0.25, 0.5, 1, 1, 1, 0.5, 0.1, 0, 0]).double()
    points = torch.cartesian_prod(at, at)
    expected = (along[:, None] * along).flatten()
    torch.testing.assert_close(reference.coverage(points, (5, 5)), expected)
    points = torch.stack([at.clamp(-0.4, 0.4), at], dim=-1)
    torch.testing.assert_close(reference.coverage(points, (1, 5)), along)
    assert float(reference.coverage(torch.tensor([[0.6, 2.0]]), (1, 5))) == 0
