"""Segmentation of images in world space, by a network whose answer is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stn3d.grid import Grid
from stn3d.nets.segmenter import Segmentation, segment
from stn3d.nets.weights import TrainedNetwork
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.structures import STRUCTURES, brain_classes
from stn3d.transforms import Rigid

BRIGHT, DARK = 4, 1  # left white matter, soft tissue


class Thresholds(nn.Module):
    """Bright voxels are white matter, dark ones soft tissue, the rest background."""

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.zeros(len(image), len(STRUCTURES), *image.shape[2:])
        logits[:, 0] = 9 * (image[:, 0] < 0.2)
        logits[:, DARK] = 9 * ((image[:, 0] >= 0.2) & (image[:, 0] < 0.6))
        logits[:, BRIGHT] = 9 * (image[:, 0] >= 0.6)
        return logits


TRAINED = TrainedNetwork(Thresholds(), {}, {"spacing_mm": 2.0}, {})


def phantom(grid: Grid, centre: Tensor) -> Tensor:
    """A bright ball of 40 mm in a dark one of 55 mm, ``(1, 1, *shape)``."""
    distance = torch.linalg.vector_norm(grid.points_mm() - centre, dim=-1)
    return (0.4 * (distance < 55) + 0.6 * (distance < 40)).float()[None, None]


def test_structures_lie_where_the_image_shows_them() -> None:
    """Any axes and spacing; the result is the same for an image that is turned with its header."""
    matrix = torch.tensor(
        [[0, 0, 3.0, -90], [-1.5, 0, 0, 120], [0, 1.5, 0, 30], [0, 0, 0, 1]]
    ).double()
    grid, centre = Grid((100, 90, 50), matrix), torch.tensor([-10.0, 40, 95]).double()
    turn = Rigid(torch.tensor([0.3, -0.5, 0.2, 20.0, -10.0, 5.0]), torch.zeros(3))
    for upright in (None, turn):
        placed = grid
        if upright is not None:
            placed = Grid(grid.shape, torch.linalg.inv(turn.matrix) @ matrix)
        at = centre if upright is None else turn.inverse()(centre)
        image = phantom(placed, at)
        found = segment(TRAINED, PreparedImage(image, placed), upright)
        assert [round(mm, 6) for mm in found.grid.spacing_mm] == [2, 2, 2]
        where = found.grid.points_mm()[found.classes[0, 0] == BRIGHT]
        assert torch.linalg.vector_norm(where.mean(dim=0) - at) < 0.5
        volume = len(where) * 8 / (4 / 3 * math.pi * 40**3)
        assert abs(volume - 1) < 0.05
        back = found.classes_on(placed)
        truth = torch.where(image > 0.6, BRIGHT, torch.where(image > 0.2, DARK, 0))
        seen = found.classes_on(placed) > 0
        assert float((back == truth)[seen].float().mean()) > 0.96


def test_the_second_pass_sees_the_surroundings_of_the_brain() -> None:
    grid = Grid.of_spacing((100, 100, 100), 2.0)
    image = phantom(grid, grid.centre_mm)
    found = segment(TRAINED, PreparedImage(image, grid))
    assert max(found.grid.size_mm) <= 80 + 2 * 20 + 4
    faint = segment(TRAINED, PreparedImage(0.5 * image, grid))  # no brain is found
    assert max(faint.grid.size_mm) > 110
    assert not bool(faint.mask.any())
    assert not bool(segment(TRAINED, PreparedImage(0 * image, grid)).classes.any())


def test_mask_uncertainty_and_field_of_view() -> None:
    shape = (20, 20, 20)
    p = torch.zeros(1, len(STRUCTURES), *shape)
    p[:, 0] = 1
    p[0, :, 4:16, 4:16, 4:16] = 0
    p[0, brain_classes()[0], 4:16, 4:16, 4:16] = 0.6
    p[0, brain_classes()[1], 4:16, 4:16, 4:16] = 0.4
    p[0, :, 9:11, 4:12, 9:11] = 0
    p[0, 3, 9:11, 4:12, 9:11] = 1  # fluid in a fissure
    p[0, :, 0, 0, 0], p[0, 4, 0, 0, 0] = 0, 1  # a speck
    found = Segmentation(p, Grid.of_spacing(shape, 2.0), torch.ones(1, 1, *shape))
    assert 12**3 - 8 <= found.mask.sum() <= 12**3  # the mouth of the fissure may stay open
    assert not bool(found.mask[0, 0, 0, 0, 0])
    entropy = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4)) / math.log(len(STRUCTURES))
    assert math.isclose(float(found.uncertainty[0, 0, 5, 5, 5]), entropy, rel_tol=1e-4)
    assert float(found.uncertainty[0, 0, 1, 1, 1]) < 1e-6
    assert math.isclose(float(found.brain[0, 0, 5, 5, 5]), 1.0, rel_tol=1e-6)
