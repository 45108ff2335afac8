"""Segmentation of images in world space, by a network whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from stn3d.grid import Grid, homogeneous
from stn3d.nets.coordinates import CoordinateRegressor
from stn3d.nets.segmenter import Segmentation, segment, upright_frame
from stn3d.nets.weights import TrainedNetwork
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.structures import STRUCTURES, brain_classes
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import make_grid, random, rotation
from tests.nets.test_pose import CoordinateImage, coordinate_image, similarity

BRIGHT, DARK = 4, 1  # left white matter, soft tissue


class Thresholds(nn.Module):
    """Bright voxels are white matter, dark ones soft tissue, the rest background."""

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.zeros(len(image), len(STRUCTURES), *image.shape[2:])
        logits[:, 0] = 9 * (image[:, 0] < 0.2)
        logits[:, DARK] = 9 * ((image[:, 0] >= 0.2) & (image[:, 0] < 0.6))
        logits[:, BRIGHT] = 9 * (image[:, 0] >= 0.6)
        return logits


TRAINED = TrainedNetwork(Thresholds(), {}, {"spacing_mm": 4.0}, {})


def phantom(grid: Grid, centre: Tensor) -> Tensor:
    """A bright ball of 40 mm in a dark one of 55 mm, ``(1, 1, *shape)``."""
    distance = torch.linalg.vector_norm(grid.points_mm() - centre, dim=-1)
    return (0.4 * (distance < 55) + 0.6 * (distance < 40)).float()[None, None]


def test_structures_lie_where_the_image_shows_them() -> None:
    """Any axes and spacing, in a frame that is turned and a little off."""
    matrix = torch.tensor(
        [[0, 0, 5.0, -90], [-3.0, 0, 0, 120], [0, 3.0, 0, 30], [0, 0, 0, 1]]
    ).double()
    grid, centre = Grid((50, 45, 30), matrix), torch.tensor([-10.0, 40, 95]).double()
    image = phantom(grid, centre)
    turn = rotation(3, (10, -25, 15))
    for off_mm, recentred in ((5.0, False), (30.0, True)):
        shift = -turn @ centre + off_mm * torch.tensor([0.6, 0, 0.8]).double()
        frame = Affine.from_matrix(homogeneous(turn, shift))
        found = segment(TRAINED, PreparedImage(image, grid), frame)
        assert [round(mm, 6) for mm in found.grid.spacing_mm] == [4, 4, 4]
        box_off_mm = float(torch.linalg.vector_norm(found.grid.centre_mm - centre))
        assert box_off_mm == pytest.approx(0 if recentred else off_mm, abs=1)
        where = found.grid.points_mm()[found.classes[0, 0] == BRIGHT]
        assert torch.linalg.vector_norm(where.mean(dim=0) - centre) < 0.7
        volume = len(where) * 4**3 / (4 / 3 * math.pi * 40**3)
        assert abs(volume - 1) < 0.08
        back = found.classes_on(grid)
        truth = torch.where(image > 0.6, BRIGHT, torch.where(image > 0.2, DARK, 0))
        assert float((back == truth)[back > 0].float().mean()) > 0.93
        ends = grid.index_from_world @ found.grid.world_from_index
        assert bool((found.seen < 0.5).any()), "the box is larger than the image"
        assert math.isclose(abs(float(torch.linalg.det(ends))), 64 / 45, rel_tol=1e-6)


def test_nothing_is_found_in_an_empty_image() -> None:
    grid = Grid.of_spacing((20, 20, 20), 4.0)
    found = segment(
        TRAINED, PreparedImage(torch.zeros(1, 1, *grid.shape), grid), Affine.identity(3)
    )
    assert not bool(found.classes.any())
    assert not bool(found.mask.any())


class Known(CoordinateRegressor):
    """Answers with the image itself."""

    def forward(self, image: Tensor) -> Tensor:
        return CoordinateImage()(image)


def test_the_frame_is_rigid_and_upright() -> None:
    truth = similarity(3, 40, 7.0)
    grid = make_grid((60, 54, 50), (1.5, 2.0, 1.8), (10, 25, -15), (-40, 20, 8), True)
    known = TrainedNetwork(Known(), {}, {"spacing_mm": 4.0}, {})
    frame = upright_frame(known, coordinate_image(truth, grid))
    linear = frame.matrix[:3, :3]
    assert torch.allclose(linear @ linear.T, torch.eye(3).double(), atol=1e-6)
    points = grid.centre_mm + 30 * random(20, 3)
    assert (frame(points) - truth(points)).norm(dim=-1).max() < 1.0


def test_without_a_pose_the_frame_has_the_axes_of_the_world() -> None:
    untrained = TrainedNetwork(CoordinateRegressor(), {}, {"spacing_mm": 4.0}, {})
    grid, centre = Grid.of_spacing((40, 40, 40), 4.0), torch.tensor([60.0, 80, 90]).double()
    frame = upright_frame(untrained, PreparedImage(phantom(grid, centre), grid))
    assert torch.equal(frame.matrix[:3, :3], torch.eye(3).double())
    assert torch.allclose(frame(centre), torch.zeros(3).double(), atol=1)


def test_mask_uncertainty_and_field_of_view() -> None:
    shape = (20, 22, 20)
    p = torch.zeros(1, len(STRUCTURES), *shape)
    p[:, 0] = 1
    p[0, :, 4:16, 4:16, 4:16] = 0
    p[0, brain_classes()[0], 4:16, 4:16, 4:16] = 0.6
    p[0, brain_classes()[1], 4:16, 4:16, 4:16] = 0.4
    p[0, :, 9:11, 4:12, 9:11] = 0
    p[0, 3, 9:11, 4:12, 9:11] = 1  # fluid in a fissure, around the brain, far from it
    p[0, :, 5:10, 16:22, 5:10] = 0
    p[0, 3, 5:10, 16:22, 5:10] = 1
    p[0, :, 0, 0, 0], p[0, 4, 0, 0, 0] = 0, 1  # a speck
    found = Segmentation(p, Grid.of_spacing(shape, 2.0), torch.ones(1, 1, *shape))
    assert bool(found.mask[0, 0, 9:11, 4:12, 9:11].all())
    assert [bool(found.mask[0, 0, 7, at, 7]) for at in (15, 16, 19, 20)] == [
        True,
        True,
        True,
        False,
    ]
    assert found.mask.sum() == 12**3 + 4 * 25
    assert not bool(found.mask[0, 0, 0, 0, 0])
    entropy = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4)) / math.log(len(STRUCTURES))
    assert math.isclose(float(found.uncertainty[0, 0, 5, 5, 5]), entropy, rel_tol=1e-4)
    assert float(found.uncertainty[0, 0, 1, 1, 1]) < 1e-6
    assert math.isclose(float(found.brain[0, 0, 5, 5, 5]), 1.0, rel_tol=1e-6)
