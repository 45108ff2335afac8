"""Sampling on grids given by matrices: the reference, gradients, threads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from stn3d import kernels
from stn3d.kernels.sample_affine import reference
from tests.helpers.geometry_cases import random
from tests.kernels.cases import (
    DTYPES,
    SHAPES,
    assert_alike,
    strided,
)


def matrices(d: int, batch: int, amount: float = 0.2) -> Tensor:
    """Homogeneous matrices close to the identity."""
    square = torch.eye(d + 1).double().repeat(batch, 1, 1)
    square[:, :d] += amount * random(batch, d, d + 1, seed=4)
    square[:, :d, d] *= 5
    return square


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batches", [(1, 1), (5, 5), (5, 1), (1, 5)])
@pytest.mark.parametrize("wanted", ["own", "other"])
def test_sample_affine_equals_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, batches: tuple[int, int], wanted: str
) -> None:
    d = len(shape)
    image = strided(random(batches[0], 3, *shape)).to(dtype).requires_grad_()
    matrix = matrices(d, batches[1]).requires_grad_()
    out = shape if wanted == "own" else (7, 5, 19)[-d:]
    assert_alike(
        lambda a, b: kernels.sample_affine(a, b, out),
        lambda a, b: reference.sample_affine(a, b, out),
        (image, matrix),
    )


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("batch", [1, 3])
def test_sample_affine_passes_gradcheck(d: int, batch: int) -> None:
    image = random(batch, 2, *(6, 5, 7)[:d]).requires_grad_()
    matrix = matrices(d, batch, 0.1).requires_grad_()
    assert gradcheck(lambda a, b: kernels.sample_affine(a, b, (4, 5, 6)[:d]), (image, matrix))


@pytest.mark.parametrize("d", [2, 3])
def test_sample_affine_does_not_depend_on_threads(d: int) -> None:
    image = random(2, 2, *(16, 15, 14)[:d]).float().requires_grad_()
    matrix = matrices(d, 2).requires_grad_()
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 5):
            torch.set_num_threads(count)
            values = kernels.sample_affine(image, matrix, (20, 18, 16)[:d])
            found.append([values, *torch.autograd.grad(values.square().sum(), (image, matrix))])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_points_beyond_the_image_have_value_and_gradient_0() -> None:
    for d in (2, 3):
        image = torch.full((1, 1, *(4,) * d), math.nan).requires_grad_()
        for far in (math.nan, math.inf, 1e300, -40.0):
            matrix = torch.eye(d + 1).double()[None].clone()
            matrix[0, 0, d] = far
            values = kernels.sample_affine(image, matrix.requires_grad_(), (4,) * d)
            assert (values == 0).all()
            for gradient in torch.autograd.grad(values.sum(), (image, matrix)):
                assert (gradient == 0).all()
