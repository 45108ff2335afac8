"""The region of a case, and masks that cannot be used."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from stn3d.io import Image, read_image, read_labels, read_mask
from stn3d.metrics import foreground
from tests.evaluation.cases import a_pair, case_of, evaluated
from tests.helpers.synthetic import Known, dense_truth


def half(known: Known, first: int, read: Callable[..., Image]) -> Image:
    """A mask or label map that is 1 from a row on."""
    values = torch.zeros(1, 1, 36, 36)
    values[:, :, first:] = 1
    return read((values, known.fixed_grid))


def test_the_region_is_the_mask_or_else_the_foreground() -> None:
    known = a_pair(2)
    case = case_of(known)
    region = case.region
    assert region.name == "foreground"
    assert torch.equal(region.voxels, foreground(case.fixed.values))
    inner = known.anatomy.body(known.truth(known.fixed_grid.points_mm())) < 0.9
    outer = known.anatomy.body(known.truth(known.fixed_grid.points_mm())) > 1.5
    assert float(region.voxels[inner].float().mean()) > 0.97
    assert not bool(region.voxels[outer].any())
    masked = dataclasses.replace(case, fixed_mask=half(known, 30, read_mask)).region
    assert masked.as_dict() == {"name": "mask", "voxels": 6 * 36, "image_pct": 16.67}


def test_labels_and_landmarks_change_neither_the_region_nor_any_other_metric() -> None:
    known = a_pair(2)
    case = case_of(known)
    points = known.fixed_grid.points_mm()[known.foreground][::50]
    more = dataclasses.replace(
        case,
        fixed_labels=half(known, 10, read_labels),
        moving_labels=read_labels((torch.ones(known.moving.shape), known.moving_grid)),
        fixed_points_mm=points,
        moving_points_mm=points,
    )
    bent = dense_truth(known.fixed_grid, 30.0)
    bare, full = evaluated(case, bent), evaluated(more, bent)
    assert bare["folding_pct"] > 0
    assert {key: full[key] for key in bare} == bare
    assert set(full) - set(bare) == {
        *("dice", "hd95_mm", "hd95_pooled_mm", "hausdorff_mm", "assd_mm"),
        *("labels", "omitted_labels", "tre_mm", "landmark_robustness"),
    }


def test_a_background_of_any_brightness_is_no_foreground() -> None:
    known = a_pair(3)
    case = case_of(known)
    for factor, offset in ((1.0, 300.0), (900.0, -1024.0)):
        one_hole = known.fixed.clone()
        one_hole[0, 0, 0, 0, 0] = -1  # a single voxel below the background changes nothing else
        other = read_image((factor * one_hole + offset, known.fixed_grid))
        differ = dataclasses.replace(case, fixed=other).region.voxels != case.region.voxels
        assert float(differ.float().mean()) < 5e-3  # rounding
