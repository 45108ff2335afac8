"""Figures of known transforms on known pairs."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from stn3d.errors import InputError
from stn3d.evaluate import Case, evaluate, excluded_figures, read_exclusion
from stn3d.grid import homogeneous
from stn3d.io import Image, read_image, read_labels, read_mask
from stn3d.transforms import Affine, DisplacementField
from stn3d.warp import warp_image
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import Known, dense_truth, grid_about, known_pair, plain_grid


def case_of(known: Known) -> Case:
    return Case(read_image(known.sources[0]), read_image(known.sources[1]))


def shifted(ndim: int, shift_mm: float) -> Affine:
    shift = torch.zeros(ndim).double()
    shift[0] = shift_mm
    return Affine.from_matrix(homogeneous(torch.eye(ndim).double(), shift))


def a_pair(ndim: int, shift_mm: float = 4.0) -> Known:
    moving = grid_about(torch.zeros(ndim).double(), [44] * ndim, [0.8] * ndim)
    return known_pair(shifted(ndim, shift_mm), plain_grid(ndim), moving)


@pytest.mark.parametrize("ndim", DIMS)
def test_the_truth_scores_full_marks_and_no_transform_does_not(ndim: int) -> None:
    known = a_pair(ndim)
    before, after = (evaluate(case_of(known), t) for t in (shifted(ndim, 0), known.truth))
    assert before["correlation"] < 0.8 < 0.99 < after["correlation"]
    assert before["local_correlation"] < after["local_correlation"]
    for figures in (before, after):
        assert (figures["folding_pct"], figures["min_jac"]) == (0, pytest.approx(1))
        assert figures["overlap_pct"] == pytest.approx(100)
    json.dumps([before, after], allow_nan=False)


@pytest.mark.parametrize("ndim", DIMS)
def test_labels_points_truth_and_inverse_are_judged_where_given(ndim: int) -> None:
    known = a_pair(ndim)
    case = case_of(known)
    fixed, moving = (read_labels(((image > 0.3).int(), grid)) for image, grid in known.sources)
    points = known.fixed_grid.points_mm()[known.foreground][::50]
    full = dataclasses.replace(
        case,
        fixed_labels=fixed,
        moving_labels=moving,
        fixed_points_mm=points,
        moving_points_mm=known.truth(points),
        true_transform=known.truth,
    )
    wrong = shifted(ndim, 1.0)  # 3 mm short
    bad = evaluate(full, wrong, wrong.inverse())
    good = evaluate(full, known.truth, shifted(ndim, -3.5))  # an inverse 0.5 mm off
    assert bad["dice"] < 0.95 < good["dice"]
    assert bad["labels"]["1"]["dice"] == pytest.approx(bad["dice"])
    assert good["hd95_mm"] <= 1 < bad["hd95_mm"]
    assert bad["tre_mm"]["mean"] == pytest.approx(3)
    assert bad["error_mm"]["mean"] == pytest.approx(3)
    assert bad["inverse_mm"]["max"] == pytest.approx(0, abs=1e-6)
    assert good["inverse_mm"]["mean"] == pytest.approx(0.5)
    assert good["tre_mm"]["mean"] == pytest.approx(0, abs=1e-6)
    assert not {"dice", "tre_mm", "error_mm", "inverse_mm"} & set(evaluate(case, known.truth))


def test_figures_are_taken_inside_the_mask() -> None:
    known = a_pair(2)
    spoilt = known.fixed.clone()
    spoilt[:, :, :18] = torch.rand(18, 36, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 36, 36)
    mask[:, :, 20:] = 1
    case = Case(read_image((spoilt, known.fixed_grid)), read_image(known.sources[1]))
    masked = dataclasses.replace(case, fixed_mask=read_mask((mask, known.fixed_grid)))
    assert evaluate(masked, known.truth)["correlation"] > 0.99
    assert evaluate(case, known.truth)["correlation"] < 0.9


def test_the_region_is_the_mask_or_else_the_labels_or_else_the_foreground() -> None:
    known = a_pair(2)

    def half(first: int, read: object) -> Image:
        values = torch.zeros(1, 1, 36, 36)
        values[:, :, first:] = 1
        assert callable(read)
        return read((values, known.fixed_grid))

    case = case_of(known)
    foreground = case.region
    inner = known.anatomy.body(known.truth(known.fixed_grid.points_mm())) < 0.9
    outer = known.anatomy.body(known.truth(known.fixed_grid.points_mm())) > 1.5
    assert float(foreground[inner].float().mean()) > 0.97
    assert not bool(foreground[outer].any())
    labelled = dataclasses.replace(case, fixed_labels=half(10, read_labels))
    masked = dataclasses.replace(labelled, fixed_mask=half(30, read_mask))
    assert int(labelled.region.sum()) == 26 * 36
    assert int(masked.region.sum()) == 6 * 36


def test_a_background_of_any_brightness_is_no_foreground() -> None:
    known = a_pair(3)
    case = case_of(known)
    for factor, offset in ((1.0, 300.0), (900.0, -1024.0)):
        one_hole = known.fixed.clone()
        one_hole[0, 0, 0, 0, 0] = -1  # a single voxel below the background changes nothing else
        other = read_image((factor * one_hole + offset, known.fixed_grid))
        differ = dataclasses.replace(case, fixed=other).region != case.region
        assert float(differ.float().mean()) < 5e-3  # rounding


def test_folding_is_found() -> None:
    grid = plain_grid(2, 40)
    known = known_pair(Affine.identity(2), grid, grid)
    gentle, wild = dense_truth(grid, 2.0), dense_truth(grid, 30.0)
    assert evaluate(case_of(known), gentle)["folding_pct"] == 0
    figures = evaluate(case_of(known), wild)
    assert figures["folding_pct"] > 0
    assert figures["min_jac"] <= 0


def test_no_overlap_gives_no_correlation_but_figures() -> None:
    known = a_pair(2)
    figures = evaluate(case_of(known), shifted(2, 1e3))
    assert figures["overlap_pct"] == 0
    assert figures["correlation"] in (None, 0)
    json.dumps(figures, allow_nan=False)


def test_a_moved_image_at_hand_is_used() -> None:
    known = a_pair(2)
    case = case_of(known)
    moved = warp_image(known.moving, known.moving_grid, known.truth, known.fixed_grid)
    assert evaluate(case, known.truth, moved=moved) == evaluate(case, known.truth)
    other = evaluate(case, known.truth, moved=-moved)
    assert other["correlation"] < -0.99


# -- what did not count ---------------------------------------------------------------------------


def ball(ndim: int, radius_mm: float = 7.0) -> Image:
    """A mask about a point off the middle, on an oblique grid of unlike spacings."""
    grid = grid_about(torch.zeros(ndim), [44] * ndim, (1.0, 1.3, 1.6)[:ndim], (20, -10, 30))
    middle = torch.tensor([3.0, -2, 1]).double()[:ndim]
    inside = torch.linalg.vector_norm(grid.points_mm() - middle, dim=-1) < radius_mm
    return read_mask((inside[None, None], grid))


@pytest.mark.parametrize("ndim", DIMS)
def test_a_linear_transform_changes_every_volume_by_its_determinant(ndim: int) -> None:
    mask = ball(ndim)
    linear = torch.diag(torch.tensor([1.2, 0.9, 1.1][:ndim]).double())
    linear[0, 1] = 0.3
    figures = excluded_figures(mask, Affine.from_matrix(homogeneous(linear, torch.ones(ndim))))
    change = float(torch.linalg.det(linear))
    voxel_ml = float(np.prod(mask.grid.spacing_mm)) / 1000
    assert figures["volume_ml"] == pytest.approx(voxel_ml * int(mask.values.sum()))
    assert figures["volume_after_ml"] == pytest.approx(change * figures["volume_ml"], rel=1e-4)
    for key in ("change_pct", "surroundings_change_pct"):
        assert figures[key] == pytest.approx(100 * (change - 1), abs=0.01)
    json.dumps(figures, allow_nan=False)


@pytest.mark.parametrize("ndim", DIMS)
def test_a_bent_volume_is_that_of_the_bent_voxels(ndim: int) -> None:
    """By other code: Jacobians by numpy's differences of mapped voxels, distances by a tree."""
    mask = ball(ndim)
    field: DisplacementField = dense_truth(mask.grid, 3.0)
    figures = excluded_figures(mask, field, around_mm=5.0)
    points = mask.grid.points_mm().numpy()
    there = field(mask.grid.points_mm().flatten(0, -2)).double().numpy().reshape(points.shape)
    there_by_index = np.stack([np.gradient(there, axis=a) for a in range(ndim)], axis=-1)
    here_by_index = mask.grid.world_from_index[:ndim, :ndim].numpy()
    change = np.linalg.det(there_by_index) / np.linalg.det(here_by_index)
    part = mask.values[0, 0].numpy()
    distance = cKDTree(points[part]).query(points)[0]
    shell = ~part & (distance <= 5.0)
    assert figures["change_pct"] == pytest.approx(100 * (change[part].mean() - 1), abs=0.3)
    around = 100 * (change[shell].mean() - 1)
    assert figures["surroundings_change_pct"] == pytest.approx(around, abs=0.3)
    assert abs(figures["change_pct"] - around) > 0.5  # they are two figures


def test_a_part_without_surroundings_has_no_figure_of_them() -> None:
    grid = plain_grid(2, 60, 15)
    mask = torch.zeros(1, 1, *grid.shape)
    mask[..., 1, 1] = 1
    figures = excluded_figures(read_mask((mask, grid)), shifted(2, 3.0))
    assert figures["surroundings_change_pct"] is None
    assert figures["change_pct"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("ndim", DIMS)
def test_exclude_masks_of_no_use_are_named(ndim: int) -> None:
    known = a_pair(ndim)
    image = read_image(known.sources[0])
    assert read_exclusion(None, image, "fixed") is None
    some = torch.zeros_like(known.fixed)
    with pytest.raises(InputError, match=r"fixed exclude mask .* is empty"):
        read_exclusion((some, known.fixed_grid), image, "fixed")
    with pytest.raises(InputError, match=r"fixed exclude mask .* covers the whole image"):
        read_exclusion((some + 1, known.fixed_grid), image, "fixed")
    with pytest.raises(InputError, match=r"moving exclude mask .* another grid"):
        read_exclusion((torch.ones_like(known.moving), known.moving_grid), image, "moving")
    some[(..., *[slice(5, 9)] * ndim)] = 3  # of any number
    read = read_exclusion((some, known.fixed_grid), image, "fixed")
    assert read is not None
    assert torch.equal(read.values, some > 0)
