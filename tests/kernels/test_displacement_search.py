"""The discrete search: the references, and costs by hand."""

from __future__ import annotations

import pytest
import torch

from stn3d import kernels
from stn3d.kernels.displacement_search import reference
from tests.helpers.geometry_cases import random, uniform
from tests.kernels.cases import DTYPES, SHAPES, assert_near, strided


def offsets_of(ndim: int) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.arange(-2, 3)] * ndim)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("radius", [0, 1])
def test_the_search_equals_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, radius: int
) -> None:
    fixed, moved = (strided(random(1, 3, *shape, seed=s)).to(dtype) for s in (0, 1))
    weight, field = uniform(0, 1, 1, 1, *shape).to(dtype), random(1, len(shape), *shape).to(dtype)
    arguments = fixed, moved, weight, offsets_of(len(shape)), radius
    cost = kernels.displacement_cost(*arguments)
    assert_near(cost, reference.displacement_cost(*arguments))
    options = cost, offsets_of(len(shape)), field, 0.3
    found = kernels.cheapest_displacement(*options)
    torch.testing.assert_close(found, reference.cheapest_displacement(*options))


def test_a_cost_by_hand() -> None:
    fixed, moved = torch.zeros(1, 1, 1, 4), torch.tensor([1.0, 2, 3, 4])[None, None, None]
    weight, offsets = torch.tensor([1.0, 1, 2, 1])[None, None, None], torch.tensor([[0, 1], [0, 0]])
    cost = kernels.displacement_cost(fixed, moved, weight, offsets, 1)
    # Beyond the last voxel the moved image goes on as 4.
    expected = [[(4 + 9) / 2, (4 + 9 + 32) / 3, (9 + 32 + 16) / 3, (32 + 16) / 2]]
    expected += [[(1 + 4) / 2, (1 + 4 + 18) / 3, (4 + 18 + 16) / 3, (18 + 16) / 2]]
    torch.testing.assert_close(cost[0, :, 0], torch.tensor(expected))


def test_the_coupling_decides_between_equal_costs() -> None:
    cost, offsets = torch.zeros(1, 3, 2, 2), torch.tensor([[0, 0], [0, 2], [0, -2]])
    field = torch.zeros(1, 2, 2, 2)
    field[:, 1, :, 1] = -1.5
    found = kernels.cheapest_displacement(cost, offsets, field, 0.1)
    assert found[0, 1].tolist() == [[0, -2], [0, -2]]
    assert float(found[0, 0].abs().max()) == 0
