"""An image against its mirror is found out; an image against itself is not."""

from __future__ import annotations

import pytest
import torch

from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.quality_mirror import mirror_advantage, mirror_advantage_fraction
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import known_pair, linear_truth, plain_grid


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
    assert mirror_advantage(right, truth, "lncc", points) < -0.1
    assert mirror_advantage(wrong, start, "lncc", points) > 0.1
    fraction = mirror_advantage_fraction(wrong, 1.0, start, "lncc", points, 0.5)
    assert fraction == pytest.approx(2 * mirror_advantage(wrong, start, "lncc", points), rel=1e-3)


@pytest.mark.parametrize("ndim", DIMS)
def test_a_symmetric_object_fits_as_well(ndim: int) -> None:
    grid = plain_grid(ndim, 32)
    fixed = known_pair(Affine.identity(ndim), grid, grid).pair.fixed
    both = PreparedImage(fixed.image + fixed.image.flip(2), grid)
    points = grid.points_mm().flatten(0, -2)
    found = mirror_advantage(Pair(both, both), Affine.identity(ndim), "lncc", points)
    assert found == pytest.approx(0, abs=0.01)
