"""Structures of heads that are known, compared under known transforms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.nets.head_structures import HeadStructures, structure_dice
from stn3d.nets.segmentation_quality import SegmentationMeasures, SegmentationQuality
from stn3d.structures import STRUCTURES, brain_classes, mirrored_classes
from stn3d.transforms import Affine, Translation

GRID = Grid.of_spacing((48, 52, 44), 2.0)
SKULL, WHITE = 2, (4, 5)
QUALITY = SegmentationQuality("good", "", "", SegmentationMeasures(1400.0, 0.1, 0.0, 1.0))


def classes_of(skull: bool = True) -> Tensor:
    """A ball of 32 mm, divided into the structures of both sides by a grid of columns along x."""
    points = GRID.points_mm() - GRID.centre_mm
    radius = torch.linalg.vector_norm(points, dim=-1)
    left, right = (
        [i for i in brain_classes() if STRUCTURES[i].side == s] for s in ("left", "right")
    )
    rows, columns = (((points[..., axis] + 32) / 16).long().clamp(0, 3) for axis in (1, 2))
    cells = (4 * rows + columns) % len(left)
    classes = torch.zeros(GRID.shape).long()
    for numbers, side in ((left, points[..., 0] < 0), (right, points[..., 0] >= 0)):
        inside = side & (radius < 32)
        classes[inside] = torch.tensor(numbers)[cells[inside]]
    if skull:
        classes[(radius >= 36) & (radius < 50)] = SKULL
    return classes[None, None].to(torch.uint8)


def structures(classes: Tensor, seen: Tensor | None = None) -> HeadStructures:
    is_brain = (classes[..., None] == torch.tensor(brain_classes())).any(dim=-1)
    tissues = torch.zeros(1, 3, *GRID.shape)
    seen = torch.ones(1, 1, *GRID.shape) if seen is None else seen
    intensities = (classes > 0).half()
    return HeadStructures(classes, tissues, is_brain, seen, GRID, QUALITY, intensities)


def test_a_head_overlaps_fully_with_itself_and_less_after_a_translation() -> None:
    head = structures(classes_of())
    same = structure_dice(head, head, Affine.identity(3))
    assert same == 1
    dice = []
    for mm in (2.0, 4.0, 8.0):
        shift = Translation(torch.tensor([0.0, mm, 0.0]).double(), torch.zeros(3).double())
        found = structure_dice(head, head, shift)
        assert found is not None
        dice.append(found)
    assert 1 > dice[0] > dice[1] > dice[2] > 0


def test_the_overlap_is_that_of_each_structure_counted_by_hand() -> None:
    a = classes_of()
    b = a.clone()
    b[..., ::2] = torch.where(b[..., ::2] == WHITE[0], 0, b[..., ::2])
    found = structure_dice(structures(a), structures(b), Affine.identity(3))
    assert found is not None
    kept, whole = (int((one == WHITE[0]).sum()) for one in (b, a))
    left = 2 * kept / (kept + whole)
    sided = sum(STRUCTURES[i].side != "" for i in brain_classes())
    assert found == pytest.approx((sided - 1 + left) / sided)


def test_exchanged_sides_do_not_overlap() -> None:
    a = classes_of()
    b = mirrored_classes()[a.long()].to(torch.uint8)
    found = structure_dice(structures(a), structures(b), Affine.identity(3))
    assert found is not None
    assert found == 0


def test_only_what_both_images_show_is_compared() -> None:
    a = classes_of()
    seen = (GRID.points_mm()[..., 1] > float(GRID.centre_mm[1])).float()[None, None]
    b = torch.where(seen > 0, a, 0)
    found = structure_dice(structures(a), structures(b, seen), Affine.identity(3))
    assert found is not None
    assert found == 1
    unseen = torch.zeros_like(seen)
    assert structure_dice(structures(a), structures(b, unseen), Affine.identity(3)) is None
    far = Translation(torch.tensor([500.0, 0, 0]).double(), torch.zeros(3).double())
    assert structure_dice(structures(a), structures(a), far) is None


def test_a_skull_is_what_lies_around_the_brain() -> None:
    assert structures(classes_of(skull=True)).has_skull
    stripped = structures(classes_of(skull=False))
    assert not stripped.has_skull
    assert not replace(stripped, seen=torch.zeros_like(stripped.seen)).has_skull


@pytest.mark.parametrize(("brightness", "shown"), [(0.15, False), (0.3, True)])
def test_a_scalp_that_is_hardly_brighter_than_air_is_no_skull(
    brightness: float, shown: bool
) -> None:
    head = structures(classes_of())
    faint = torch.where(head.brain, 1.0, brightness).half()
    assert replace(head, intensities=faint).has_skull == shown


def test_the_brain_on_another_grid_has_the_margin_asked_for() -> None:
    head = structures(classes_of())
    fine = GRID.resampled(1.3).padded(5.0)
    radius = torch.linalg.vector_norm(fine.points_mm() - GRID.centre_mm, dim=-1)
    found = head.brain_on(fine, 4.0)[0, 0]
    assert bool(found[radius < 33].all())
    assert not bool(found[radius > 38].any())


def test_centres_are_centres_of_mass() -> None:
    centres, counts = structures(classes_of()).centres_mm()
    left = brain_classes().index(WHITE[0])
    mask = classes_of()[0, 0] == WHITE[0]
    assert int(counts[left]) == int(mask.sum())
    assert torch.allclose(centres[left], GRID.points_mm()[mask].mean(dim=0))
    absent = next(i for i, n in enumerate(brain_classes()) if STRUCTURES[n].side == "")
    assert counts[absent] == 0
