"""Linear interpolation at points: the reference, gradients, batches, NaN."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from stn3d import kernels
from stn3d.kernels.sample_linear import reference
from tests.helpers.geometry_cases import random, uniform
from tests.kernels.cases import (
    BATCHES,
    DTYPES,
    SHAPES,
    assert_alike,
    strided,
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("dtype", "points_dtype"),
    [
        (torch.float32, torch.float32),
        (torch.float32, torch.float64),
        (torch.float64, torch.float64),
        (torch.float64, torch.float32),
    ],
)
@pytest.mark.parametrize("batches", BATCHES)
def test_sample_linear_equals_the_reference(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    points_dtype: torch.dtype,
    batches: tuple[int, int],
) -> None:
    image = strided(random(batches[0], 3, *shape)).to(dtype).requires_grad_()
    points = strided(uniform(-1.5, 8, batches[1], 300, len(shape))).to(points_dtype)
    inputs = (image, points.requires_grad_())
    assert_alike(kernels.sample_linear, reference.sample_linear, inputs)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257])
def test_sample_linear_takes_any_number_of_points(count: int) -> None:
    image, points = random(1, 2, 5, 4, 3).float(), uniform(-1, 5, 1, count, 3)
    assert_alike(kernels.sample_linear, reference.sample_linear, (image, points))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batches", [(20, 20), (20, 1), (1, 20)])
def test_a_large_batch_equals_the_reference_with_any_number_of_threads(
    shape: tuple[int, ...], batches: tuple[int, int]
) -> None:
    image = strided(random(batches[0], 2, *shape)).float().requires_grad_()
    points = strided(uniform(-1.5, 8, batches[1], 300, len(shape))).float().requires_grad_()
    upstream = random(20, 2, 300, seed=3).float()
    assert_alike(kernels.sample_linear, reference.sample_linear, (image, points))
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 5):
            torch.set_num_threads(count)
            values = kernels.sample_linear(image, points)
            found.append([values, *torch.autograd.grad(values, (image, points), upstream)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_points_at_nan_or_infinity_have_value_and_gradient_0() -> None:
    image = torch.full((1, 1, 4, 4, 4), math.nan).requires_grad_()
    far = [math.nan, math.inf, -math.inf, 1e300, -1e300, 2.0**31, 2.0**32 + 1]
    points = torch.ones(1, 3 * len(far), 3).double()
    for axis in range(3):
        points[0, axis::3, axis] = torch.tensor(far).double()
    for kind in DTYPES:
        at = points.to(kind).requires_grad_()
        values = kernels.sample_linear(image, at)
        assert (values == 0).all()
        for gradient in torch.autograd.grad(values.sum(), (image, at)):
            assert (gradient == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_sample_linear_and_compose_pass_gradcheck(shape: tuple[int, ...]) -> None:
    d = len(shape)
    image, field = random(1, 2, *shape), random(1, d, *shape, seed=1, scale=0.4)
    points = uniform(0.1, 0.9, 2, 3, d) + torch.tensor([n // 2 - 0.0 for n in shape])
    wanted = [x.requires_grad_() for x in (image, points)]
    assert gradcheck(kernels.sample_linear, wanted, fast_mode=True)
    fields = [field.requires_grad_(), random(1, d, *shape, seed=2).requires_grad_()]
    assert gradcheck(kernels.compose, fields, fast_mode=True)
    assert gradcheck(lambda v: kernels.exponential(v, 2), fields[:1], fast_mode=True)
