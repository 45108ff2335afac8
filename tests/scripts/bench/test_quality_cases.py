"""The cases that the quality check is evaluated with."""

from __future__ import annotations

import pytest
import torch

from scripts.bench import quality_cases
from stn3d import Grid
from stn3d.warp import jacobian_determinant
from tests.helpers.paths import DATA


def test_slabs_keep_their_place_in_the_world() -> None:
    grid = Grid.of_spacing((20, 24, 30), 2.0)
    values = grid.points_mm()[..., 2].float()[None, None]
    part, where = quality_cases.slab((values, grid), 0.5, 2)
    assert part.shape[2:] == where.shape == (20, 24, 15)
    assert torch.allclose(part[0, 0].double(), where.points_mm()[..., 2], atol=1e-4)


def test_deformations_are_smooth_and_do_not_fold() -> None:
    grid = Grid.of_spacing((60, 70, 60), 2.0)
    generator = torch.Generator().manual_seed(3)
    field = quality_cases.deformation(grid, generator, 10.0)
    moved = (field(grid.points_mm()) - grid.points_mm()).norm(dim=-1)
    assert 2 < float(moved.max()) < 14
    assert float(jacobian_determinant(field, grid).min()) > 0


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
@pytest.mark.parametrize("number", [0, 2, 4, 6, 8])
def test_a_number_always_draws_the_same_case(number: int) -> None:
    one, two = quality_cases.draw(number), quality_cases.draw(number)
    assert one.what == quality_cases.FAMILIES[number // 2 % 5]
    assert torch.equal(one.moving[0], two.moving[0])
    assert (one.truth is None) == (one.what == quality_cases.UNRELATED)
    assert bool(torch.isfinite(one.moving[0]).all())
