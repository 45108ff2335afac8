"""Images on the axis-aligned grid of a network."""

from __future__ import annotations

import pytest
import torch

from stn3d.grid import Grid, apply_matrix
from stn3d.nets.working_grid import axis_aligned_grid, fade_at_border, working_image
from stn3d.preprocessing.prepared import PreparedImage
from tests.helpers.geometry_cases import DIMS, make_grid, oblique
from tests.helpers.synthetic import Anatomy


@pytest.mark.parametrize("d", DIMS)
def test_an_axis_aligned_grid_contains_the_other_grid(d: int) -> None:
    grid = oblique(d, (17, 12, 9)[:d])
    around = axis_aligned_grid(grid, 2.0)
    assert around.spacing_mm == pytest.approx([2.0] * d)
    assert torch.equal(around.world_from_index[:d, :d], 2 * torch.eye(d).double())
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, n - 0.5]).double() for n in grid.shape])
    index = apply_matrix(around.index_from_world @ grid.world_from_index, corners.reshape(-1, d))
    assert (index >= -0.5 - 1e-6).all()
    assert (index <= torch.tensor(around.shape) - 0.5 + 1e-6).all()


@pytest.mark.parametrize("d", DIMS)
def test_a_working_image_keeps_the_foreground_in_place(d: int) -> None:
    centre = torch.tensor([-30.0, 12.0, 57.0]).double()[:d]
    anatomy = Anatomy(centre)
    grid = make_grid((50, 44, 40)[:d], (1.0, 1.3, 1.1), (20, -35, 10), left_handed=True)
    middle = Grid(grid.shape, torch.eye(d + 1).double() @ grid.world_from_index)
    shift = torch.eye(d + 1, dtype=torch.float64)
    shift[:d, d] = centre - middle.centre_mm
    grid = Grid(grid.shape, shift @ grid.world_from_index)
    image = PreparedImage(anatomy(grid.points_mm())[None, None], grid)
    working = working_image(image, 2.0, margin_vox=2)
    assert working.mask is not None
    assert max(working.grid.shape) < 28  # the foreground and its margin, not the field of view
    truth = anatomy(working.grid.points_mm())
    inner = (anatomy.body(working.grid.points_mm()) < 0.7) & (working.mask[0, 0] > 0.99)
    assert int(inner.sum()) > 50
    assert (working.image[0, 0] - truth)[inner].abs().mean() < 0.08


def test_displacements_fade_at_the_border() -> None:
    u = fade_at_border(torch.ones(1, 2, 9, 8))
    rows = torch.tensor([0, 1, 2, 3, 3, 3, 2, 1, 0]) / 3
    columns = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0]) / 3
    torch.testing.assert_close(u[0, 0], rows[:, None] * columns)
