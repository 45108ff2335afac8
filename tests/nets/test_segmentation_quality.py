"""The status of segmentations whose measures are known."""

from __future__ import annotations

import math
from collections.abc import Mapping

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
PARTS = {"left cerebellar white matter": 0.02, "brain stem": 0.0145, "right hippocampus": 0.0058}


def ball(
    radius_mm: float,
    doubt: float = 0.0,
    seen_from_mm: float = -1e3,
    parts: Mapping[str, float] = PARTS,
) -> Segmentation:
    """A ball of white matter; ``doubt`` is the probability that it is cortex.

    Args:
        radius_mm: Radius of the ball.
        doubt: Probability of the second class.
        seen_from_mm: Where the field of view begins along x; the centre of the ball is 0.
        parts: Other structures at the centre, as fractions of the ball.
    """
    grid = Grid.of_spacing((60, 60, 60), 4.0)
    points = grid.points_mm() - grid.centre_mm
    inside = (torch.linalg.vector_norm(points, dim=-1) < radius_mm).float()
    p = torch.zeros(1, len(STRUCTURES), *grid.shape)
    p[0, 0], p[0, WHITE], p[0, CORTEX] = 1 - inside, (1 - doubt) * inside, doubt * inside
    order, first = torch.linalg.vector_norm(points, dim=-1).flatten().argsort(), 0
    flat, number = p[0].flatten(1), {one.full_name: i for i, one in enumerate(STRUCTURES)}
    for name, fraction in parts.items():
        last = first + math.ceil(fraction * int(inside.sum()))
        voxels = order[first:last]
        flat[:, voxels] = 0
        flat[number[name], voxels], first = 1, last
    return Segmentation(p, grid, (points[..., 0] > seen_from_mm).float()[None, None])


def test_measures_are_those_of_the_visible_part() -> None:
    measures = SegmentationMeasures.of(ball(60, 0.25, seen_from_mm=0.0, parts={}))
    volume_ml = 4 / 3 * math.pi * 6**3
    assert measures.brain_mask_ml == pytest.approx(volume_ml / 2, rel=0.02)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(len(STRUCTURES))
    assert measures.uncertainty_mean == pytest.approx(entropy, abs=1e-4)
    # A disk beside half a sphere: pi r^2 of 3 pi r^2, in voxels whose faces count less than edges.
    assert 0.25 < measures.brain_at_edge_fraction < 0.5
    assert measures.least_relative_volume == 0
    whole = SegmentationMeasures.of(ball(60))
    assert whole.least_relative_volume == pytest.approx(1, abs=0.02)
    assert (
        SegmentationMeasures.of(ball(60, parts={**PARTS, "brain stem": 0.0})).least_relative_volume
        == 0
    )
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
        (ball(65, parts={}), "check", "hippocampus measures less than in any adult head"),
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
        segmentation = ball(65, parts={})
        p = segmentation.probabilities
        inside = p[:, WHITE : WHITE + 1].clone()
        p[:, WHITE : WHITE + classes] = inside / classes
        found = assess_segmentation(segmentation)
        statuses.append(found.status)
        assert found.measures.may_show_a_turned_head == (classes == 2)
    assert statuses == ["check", "failed", "failed"]


def test_the_volume_on_another_grid_may_be_given() -> None:
    found = assess_segmentation(ball(65), brain_mask_ml=5000.0)
    assert found.measures.brain_mask_ml == 5000
    assert found.reason == "the brain mask measures 5000 ml, more than any brain"
