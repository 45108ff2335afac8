"""Resampling of label maps: the reference against indicator functions, the kernel against it."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from stn3d import kernels
from stn3d.kernels.resample_labels import reference
from tests.kernels.cases import SHAPES, strided
from tests.kernels.test_resample import Rows, resampling


def some_labels(shape: tuple[int, ...], count: int, dtype: torch.dtype) -> Tensor:
    """Labels from -1 on; 64 bits hold large ones, which float32 merges."""
    generator = torch.Generator().manual_seed(3)
    numbers = torch.randint(-1, count - 1, (1, 1, *shape), generator=generator)
    return strided(numbers + (1 << 40 if dtype == torch.int64 else 0)).to(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("rows", get_args(Rows))
def test_labels_equal_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, moved: bool, rows: Rows
) -> None:
    labels = some_labels(shape, 5, dtype)
    _, *case = resampling(shape, torch.float32, moved, rows)
    actual = kernels.resample_labels(labels, *case, -3)
    expected = reference.resample_labels(labels, *case, -3)
    assert actual.dtype == dtype
    assert torch.equal(actual, expected)
    assert 0 < int((expected == -3).sum()) < expected.numel()
    assert set(expected.unique().tolist()) <= {*labels.unique().tolist(), -3}


@pytest.mark.parametrize("shape", SHAPES)
def test_reference_is_the_largest_interpolated_indicator(shape: tuple[int, ...]) -> None:
    labels = some_labels(shape, 4, torch.int32)
    _, *case = resampling(shape, torch.float64, True, "oblique")
    values = labels.unique()
    indicators = [kernels.resample((labels == v).double(), *case, -1.0) for v in values]
    weights, within = torch.cat(indicators, dim=1), indicators[0] >= 0
    winners = values[weights.argmax(dim=1, keepdim=True)]
    first, second = weights.topk(2, dim=1).values.split(1, dim=1)
    clear = within & (first - second > 2 * reference.TIE)
    found = reference.resample_labels(labels, *case, 0)
    assert torch.equal(found[clear], winners[clear])
    assert bool((found[~within] == 0).all())
    assert int(clear.sum()) > 0.9 * int(within.sum())


@pytest.mark.parametrize("module", [kernels, reference])
def test_the_smallest_label_wins_a_tie(module: object) -> None:
    labels = torch.tensor([[7, 3, 3, 5, 9, -2]])[None, None].int()
    half = torch.tensor([[1.0, 0, 0], [0, 1, 0.5], [0, 0, 1]]).double()
    for nearly in (0.0, 2e-5, -2e-5):  # rounding errors of coordinates do not matter
        matrix = half.clone()
        matrix[1, 2] += nearly
        found = module.resample_labels(labels, matrix, (1, 5), None, 0)  # type: ignore[attr-defined]
        assert found.tolist() == [[[[3, 3, 3, 5, -2]]]]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16])
def test_small_types_are_kept(dtype: torch.dtype) -> None:
    labels = torch.tensor([[0, 1, 1], [1, 1, 0]])[None, None].to(dtype)
    found = kernels.resample_labels(labels, torch.eye(3).double(), (2, 3))
    assert found.dtype == dtype
    assert torch.equal(found, labels)


def test_points_that_are_no_numbers_lie_outside() -> None:
    labels, field = torch.full((1, 1, 4, 4), 6), torch.full((1, 2, 4, 4), torch.nan)
    eye = torch.eye(3).double()
    moves = kernels.Displacement(field, eye, torch.eye(2).double())
    for module in (kernels, reference):
        assert bool((module.resample_labels(labels, eye, (4, 4), moves, 2) == 2).all())
