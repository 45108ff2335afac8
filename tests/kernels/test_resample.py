"""Resampling on another grid: the reference, gradients, shifts, precision, NaN."""

from __future__ import annotations

import math
from typing import Literal, get_args

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from stn3d import kernels
from stn3d.kernels.resample import reference
from tests.helpers.geometry_cases import random
from tests.kernels.cases import (
    DTYPES,
    SHAPES,
    assert_alike,
    strided,
)

Rows = Literal["shifted", "straight", "oblique"]
"""Rows of the output grid: on the image's voxels, along its last axis, or oblique."""


def resampling(
    shape: tuple[int, ...], dtype: torch.dtype, moved: bool, rows: Rows
) -> tuple[Tensor, Tensor, tuple[int, ...], kernels.Displacement | None]:
    """An image, a matrix, an output shape and a displacement."""
    d = len(shape)
    matrix, own = torch.eye(d + 1).double(), torch.eye(d + 1).double()
    wide = torch.tensor(shape) > 1
    matrix[:d, -1], own[:d, -1] = (wide * torch.tensor(by[:d]) for by in ([-1, 2, 1], [1, -2, 0]))
    if rows != "shifted":
        matrix[:d] += random(d, d + 1, scale=0.1)
        own[:d] += random(d, d + 1, seed=1, scale=0.1)
    if rows == "straight":
        matrix[: d - 1, d - 1], own[: d - 1, d - 1] = 1e-17, 0
    image = strided(random(1, 2, *shape)).to(dtype)
    vectors = strided(random(1, d, *[n + (n > 1) for n in shape], seed=2)).to(dtype)
    linear = torch.eye(d).double() + random(d, d, seed=3, scale=0.2)
    displacement = kernels.Displacement(vectors, own, linear) if moved else None
    return image, matrix, tuple(n + 2 * (n > 1) for n in shape), displacement


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("rows", get_args(Rows))
@pytest.mark.parametrize("outside", [0.0, -7.5])
def test_resample_equals_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, moved: bool, rows: Rows, outside: float
) -> None:
    case = resampling(shape, dtype, moved, rows)
    close = {"rtol": 1e-4, "atol": 2e-5} if dtype == torch.float32 else {}
    actual = kernels.resample(*case, outside)
    expected = reference.resample(*case, outside)
    torch.testing.assert_close(actual, expected, **close)
    assert 0 < int((expected == outside).sum()) < expected.numel()


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_resample_has_the_right_gradients(shape: tuple[int, ...]) -> None:
    image, matrix, wanted, displacement = resampling(shape, torch.float64, True, "oblique")
    assert displacement is not None
    assert gradcheck(
        lambda i, m, v: kernels.resample(i, m, wanted, displacement._replace(vectors=v)),
        [x.requires_grad_() for x in (image, matrix, displacement.vectors)],
        fast_mode=True,
    )
    for rows in get_args(Rows):
        image, *others = resampling(shape, torch.float64, False, rows)
        assert_alike(
            lambda i, o=others: kernels.resample(i, *o),
            lambda i, o=others: reference.resample(i, *o),
            [image.requires_grad_()],
        )


@pytest.mark.parametrize("shift", [-9, -4, -3, 0, 4, 5, 12])
@pytest.mark.parametrize("axis", [0, 1])
def test_resample_by_whole_voxels_inside_and_outside(shift: int, axis: int) -> None:
    image = torch.arange(1.0, 31).reshape(1, 1, 5, 6)
    matrix = torch.eye(3).double()
    matrix[axis, 2] = shift
    moved = kernels.resample(image, matrix, (4, 4), outside_value=-1.0)
    for i in range(4):
        for j in range(4):
            a, b = i + shift * (axis == 0), j + shift * (axis == 1)
            inside = 0 <= a < 5 and 0 <= b < 6
            assert float(moved[0, 0, i, j]) == (float(image[0, 0, a, b]) if inside else -1)


def test_resample_keeps_the_precision_of_coordinates() -> None:
    """A float32 index at voxel 3000 cannot resolve a hundred-thousandth of a voxel."""
    image = torch.zeros(1, 1, 2, 4000)
    image[..., 1::2] = 1
    matrix = torch.eye(3).double()
    matrix[1, 1], matrix[1, 2] = 1 / 64, 3000 + 1e-5
    row = kernels.resample(image, matrix, (2, 64))[0, 0, 0]
    expected = torch.arange(64).double() / 64 + 1e-5
    torch.testing.assert_close(row.double(), expected, rtol=0, atol=1e-7)


def test_resample_gives_the_outside_value_beyond_the_domain() -> None:
    image = torch.full((1, 1, 4, 4, 4), math.nan)
    vectors = torch.full((1, 3, 2, 2, 2), math.nan)
    far = torch.eye(4).double()
    far[:3, 3] = 1e18
    matrix = 1.5 * torch.eye(4).double()
    matrix[3, 3], matrix[:3, 3] = 1, 9
    for own in (far, matrix):
        displacement = kernels.Displacement(vectors, own, torch.eye(3).double())
        assert (kernels.resample(image, matrix, (3, 3, 3), displacement, 2.0) == 2).all()
