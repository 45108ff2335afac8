"""Poses of heads from coordinate maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn3d.grid import Grid
from stn3d.losses.coordinates import COORDINATE_UNIT_MM
from stn3d.nets.pose import estimate_pose, transform_between
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Affine, Linear, Rigid
from tests.helpers.geometry_cases import DIMS, make_grid, random, rotation


def similarity(d: int, angle_deg: float, shift_mm: float, scale: float = 1.0) -> Affine:
    """A linear transform of the world."""
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d, :d] = scale * rotation(d, (angle_deg, -angle_deg / 2, 10))
    matrix[:d, d] = shift_mm
    return Affine.from_matrix(matrix)


class CoordinateImage(nn.Module):
    """A network whose output is the downsampled input: coordinates and tissue."""

    def forward(self, image: Tensor) -> Tensor:
        pool = F.avg_pool2d if image.ndim == 4 else F.avg_pool3d
        sides = [side for n in reversed(image.shape[2:]) for side in (0, n % 2)]
        output = pool(F.pad(image, sides), 2)
        return torch.cat([output[:, :-1], 40 * output[:, -1:] - 30], dim=1)


def coordinate_image(common_from_world: Linear, grid: Grid, wrong: float = 0.0) -> PreparedImage:
    """An image of the coordinates, and of a ball in which they are known.

    The fraction ``wrong`` of the voxels has coordinates 60 mm off.
    """
    points = grid.points_mm()
    d = grid.ndim
    inside = (points - grid.centre_mm).norm(dim=-1) < 0.4 * min(grid.size_mm)
    places = common_from_world(points) / COORDINATE_UNIT_MM
    places += 0.6 * (points[..., :1] - grid.centre_mm[0] > (0.4 - 0.8 * wrong) * grid.size_mm[0])
    image = torch.cat([places.movedim(-1, 0) + 1, inside[None]]).float()
    image[:d] -= 1
    return PreparedImage(image[None], grid)


@pytest.mark.parametrize("d", DIMS)
def test_a_pose_is_estimated_on_any_grid(d: int) -> None:
    truth = similarity(d, 40, 7.0, 1.1)
    grid = make_grid((60, 54, 50)[:d], (1.5, 2.0, 1.8), (10, 25, -15), (-40, 20, 8), True)
    pose = estimate_pose(CoordinateImage(), coordinate_image(truth, grid), 4.0)  # type: ignore[arg-type]
    assert pose is not None
    points = grid.centre_mm + 30 * random(20, d)
    assert (pose.common_from_world(points) - truth(points)).norm(dim=-1).max() < 1.0
    assert pose.residual_mm < 1.5


def test_a_pose_is_robust_to_outliers() -> None:
    truth, grid = similarity(3, 40, 7.0), make_grid((60, 54, 50), (1.5, 2.0, 1.8))
    pose = estimate_pose(CoordinateImage(), coordinate_image(truth, grid, wrong=0.15), 4.0)  # type: ignore[arg-type]
    assert pose is not None
    points = grid.centre_mm + 20 * random(20, 3)
    assert (pose.common_from_world(points) - truth(points)).norm(dim=-1).max() < 2.0


@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine"])
def test_the_transform_between_two_poses(kind: Any) -> None:
    fixed_grid = make_grid((60, 54, 50), (1.5, 2.0, 1.8), (10, 25, -15), (-40, 20, 8), True)
    moving_grid = make_grid((50, 60, 44), (2.0, 1.5, 2.2), (0, -30, 5), (300, 20, -80))
    to_common = similarity(3, 35, 0.0)
    truth = Rigid(torch.tensor([0.3, -0.8, 0.2, 5, 4, -3]).double(), torch.zeros(3).double())
    near = Affine.from_matrix(torch.eye(4).double())
    moving_to_common = truth.inverse().then(near).then(to_common)
    fixed = coordinate_image(to_common, fixed_grid)
    moving = coordinate_image(moving_to_common, moving_grid)
    poses = [estimate_pose(CoordinateImage(), s, 4.0) for s in (fixed, moving)]  # type: ignore[arg-type]
    assert poses[0] is not None
    assert poses[1] is not None
    found = transform_between(kind, *poses)  # type: ignore[arg-type]
    points = fixed_grid.centre_mm + 20 * random(20, 3)
    assert (found(points) - truth(points)).norm(dim=-1).max() < 1.0
    if kind == "rigid":
        linear = found.linear_part()
        assert torch.allclose(linear @ linear.T, torch.eye(3).double(), atol=1e-9)
