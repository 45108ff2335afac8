"""Sums over voxels: right, differentiable, and the same for any number of threads."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stn3d.reductions import voxel_mean, voxel_sum


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(0, 3))
def test_the_sum_is_that_of_torch(shape: list[int], first: int) -> None:
    values = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    first = min(first, len(shape))
    expected = values.flatten(first).sum(-1) if first < len(shape) else values
    assert torch.equal(voxel_sum(values, first), expected)


def test_the_mean_of_nothing_is_nan() -> None:
    assert bool(voxel_mean(torch.zeros(0)).isnan())
    assert float(voxel_mean(torch.tensor([1.0, 2.0, 6.0]))) == 3


def test_gradient() -> None:
    values = torch.randn(2, 37, 41, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: voxel_sum(v * v, 1), values)


@pytest.mark.parametrize("shape", [(1, 1, 92, 111, 91), (1_000_003,), (3, 300, 301)])
def test_threads_do_not_change_the_sum(shape: tuple[int, ...]) -> None:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    sums, before = set(), torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            sums.add(float(voxel_sum(values)))
    finally:
        torch.set_num_threads(before)
    assert len(sums) == 1
    assert sums.pop() == pytest.approx(float(values.double().sum()), rel=1e-6)
