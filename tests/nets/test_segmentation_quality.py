"""The status of segmentations whose measures are known."""

from __future__ import annotations

import math

import pytest
import torch

from stn3d.grid import Grid
from stn3d.nets.segmentation_quality import (
    SegmentationMeasures,
    assess_segmentation,
)
from stn3d.nets.segmenter import Segmentation
from stn3d.structures import STRUCTURES

WHITE, CORTEX = 4, 6


def ball(radius_mm: float, doubt: float = 0.0, seen_from_mm: float = -1e3) -> Segmentation:
    """A ball of white matter; ``doubt`` is the probability that it is cortex.

    Args:
        radius_mm: Radius of the ball.
        doubt: Probability of the second class.
        seen_from_mm: Where the field of view begins along x; the centre of the ball is 0.
    """
    grid = Grid.of_spacing((60, 60, 60), 4.0)
    points = grid.points_mm() - grid.centre_mm
    inside = (torch.linalg.vector_norm(points, dim=-1) < radius_mm).float()
    p = torch.zeros(1, len(STRUCTURES), *grid.shape)
    p[0, 0], p[0, WHITE], p[0, CORTEX] = 1 - inside, (1 - doubt) * inside, doubt * inside
    return Segmentation(p, grid, (points[..., 0] > seen_from_mm).float()[None, None])


def test_measures_are_those_of_the_visible_part() -> None:
    measures = SegmentationMeasures.of(ball(60, 0.25, seen_from_mm=0.0))
    volume_ml = 4 / 3 * math.pi * 6**3
    assert measures.brain_mask_ml == pytest.approx(volume_ml / 2, rel=0.02)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(len(STRUCTURES))
    assert measures.uncertainty_mean == pytest.approx(entropy, abs=1e-4)
    # A disk beside half a sphere: pi r^2 of 3 pi r^2, in voxels whose faces count less than edges.
    assert 0.25 < measures.brain_at_edge_fraction < 0.5
    whole = SegmentationMeasures.of(ball(60))
    assert whole.brain_mask_ml == pytest.approx(volume_ml, rel=0.02)
    assert whole.brain_at_edge_fraction == 0


@pytest.mark.parametrize(
    ("segmentation", "status", "reason"),
    [
        (ball(65), "good", "the mean uncertainty within the brain mask is 0.00, as in heads"),
        (ball(0), "failed", "no brain was found"),
        (ball(95), "failed", "ml, more than any brain"),
        (ball(25), "failed", "ml, less than any brain"),
        (ball(85), "check", "ml, more than most brains"),
        (ball(50), "check", "ml, less than most adult brains"),
        (ball(65, seen_from_mm=-20.0), "check", "surface lies at the edge of the image"),
    ],
)
def test_the_measure_that_decides_is_named(
    segmentation: Segmentation, status: str, reason: str
) -> None:
    found = assess_segmentation(segmentation)
    assert (found.status, found.is_known) == (status, status != "failed")
    assert reason in found.reason
    assert bool(found.suggestion) == (status != "good")
    assert found.as_dict()["measures"]["brain_mask_ml"] == found.measures.brain_mask_ml


def test_an_unsure_network_does_not_know_the_image() -> None:
    """Probabilities spread over more and more classes."""
    statuses = []
    for classes in (2, 3, 12):
        segmentation = ball(65)
        p = segmentation.probabilities
        inside = p[:, WHITE : WHITE + 1].clone()
        p[:, WHITE : WHITE + classes] = inside / classes
        statuses.append(assess_segmentation(segmentation).status)
    assert statuses == ["good", "failed", "failed"]


def test_the_volume_on_another_grid_may_be_given() -> None:
    found = assess_segmentation(ball(65), brain_mask_ml=5000.0)
    assert found.measures.brain_mask_ml == 5000
    assert found.reason == "the brain mask measures 5000 ml, more than any brain"
