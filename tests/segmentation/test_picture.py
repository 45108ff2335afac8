"""The picture of a segmentation: every structure in its colour, the outline around the mask."""

from __future__ import annotations

import numpy as np
import torch

from stn3d.grid import Grid
from stn3d.io import read_image
from stn3d.nets.segmenter import Segmentation
from stn3d.segmentation import SegmentationResult
from stn3d.structures import STRUCTURES


def ball() -> SegmentationResult:
    """Dark putamen within a bright ball of white matter, in air."""
    grid = Grid.of_spacing((50, 50, 50), 3.0)
    radius = torch.linalg.vector_norm(grid.points_mm() - grid.centre_mm, dim=-1)
    p = torch.zeros(1, len(STRUCTURES), *grid.shape)
    index = {one.full_name: number for number, one in enumerate(STRUCTURES)}
    p[0, index["left cerebral white matter"]] = ((radius < 45) & (radius >= 20)).float()
    p[0, index["left putamen"]] = (radius < 20).float()
    p[0, 0] = (radius >= 45).float()
    image = read_image(((0.8 * (radius < 45))[None, None], grid))
    return SegmentationResult.of(image, Segmentation(p, grid, torch.ones_like(p[:, :1])))


def test_structures_have_their_colours_and_the_mask_its_outline() -> None:
    pixels = np.asarray(ball().picture()).astype(int)
    pink = (pixels[..., 0] - pixels[..., 1] > 80) & (pixels[..., 2] - pixels[..., 1] > 60)
    orange = (pixels[..., 0] - pixels[..., 2] > 120) & (pixels[..., 1] > 100)
    rows = np.nonzero(pink.sum(axis=1) > 40)[0]  # of the planes, not of the legend
    assert len(rows) > 50
    outline = np.nonzero(orange[: rows.min()].sum(axis=1) > 4)[0]
    assert len(outline) > 1.5 * len(rows), "the ball is more than twice as large as its core"
    assert not orange[rows.min() : rows.max()].any(), "the outline is in the upper row only"
    across = np.nonzero(pink[rows[len(rows) // 2]])[0]
    assert len(np.split(across, np.nonzero(np.diff(across) > 1)[0] + 1)) == 3, "three planes"


def test_a_picture_without_a_brain_is_drawn_too() -> None:
    result = ball()
    empty = torch.zeros_like(result.segmentation.probabilities)
    empty[:, 0] = 1
    nothing = Segmentation(empty, result.segmentation.grid, result.segmentation.seen)
    found = SegmentationResult.of(result.image, nothing)
    assert found.quality.status == "failed"
    assert found.picture().width == 1240
