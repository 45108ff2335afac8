"""An image against its mirror is found out; an image against itself is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stn3d.grid import homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.quality_mirror import MirrorComparison
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import known_pair, linear_truth, plain_grid


def advantage(pair: Pair, linear: Affine, points_mm: Tensor, spacing_mm: float = 1.0) -> float:
    return MirrorComparison(pair, spacing_mm, ("rigid", "affine"), "lncc").advantage(
        linear, points_mm
    )


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("turn_deg", [0.0, 15.0])
def test_the_mirrored_image_fits_better_only_where_it_is_the_right_one(
    ndim: int, turn_deg: float
) -> None:
    grid = plain_grid(ndim, 32)
    truth = linear_truth("rigid", torch.zeros(ndim).double(), torch.zeros(ndim).double(), turn_deg)
    known = known_pair(truth, grid, grid)
    points = grid.points_mm()[known.foreground]
    right = known.pair
    # The same voxels as another file would hold them with its first axis reversed.
    wrong = Pair(right.fixed, PreparedImage(right.moving.image.flip(2), grid))
    # The mirror image of a rotated object is rotated the other way.
    start = Affine.identity(ndim) if turn_deg else truth
    assert advantage(right, truth, points) < -0.1
    assert advantage(wrong, start, points) > 0.1


@pytest.mark.parametrize("ndim", DIMS)
def test_a_symmetric_object_fits_as_well(ndim: int) -> None:
    grid = plain_grid(ndim, 32)
    fixed = known_pair(Affine.identity(ndim), grid, grid).pair.fixed
    both = PreparedImage(fixed.image + fixed.image.flip(2), grid)
    points = grid.points_mm().flatten(0, -2)
    found = advantage(Pair(both, both), Affine.identity(ndim), points)
    assert found == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("ndim", DIMS)
def test_both_ways_are_registered_with_equal_freedom(ndim: int) -> None:
    """What was fitted to one side only, here a stretch, does not decide."""
    grid = plain_grid(ndim, 32)
    fixed = known_pair(Affine.identity(ndim), grid, grid).pair.fixed
    both = PreparedImage(fixed.image + fixed.image.flip(2), grid)
    stretch = homogeneous(
        torch.diag(torch.tensor([0.9, 1.1, 1.0][:ndim]).double()), torch.zeros(ndim).double()
    )
    larger = Affine.from_matrix(stretch)
    moving = both.warped(larger.inverse(), grid)
    points = grid.points_mm().flatten(0, -2)
    # The stretch is known to the result and unknown to the mirrored image before its registration.
    found = advantage(Pair(both, PreparedImage(moving.image, grid)), larger, points)
    assert found == pytest.approx(0, abs=0.01)
