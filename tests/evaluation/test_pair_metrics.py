"""Metrics of known transforms on known pairs."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from stn3d.evaluation import EvaluationCase
from stn3d.io import read_image, read_labels, read_mask
from stn3d.transforms import Affine
from stn3d.warp import jacobian_determinant, warp_image
from tests.evaluation.cases import a_pair, case_of, evaluated, shifted
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import dense_truth, known_pair, plain_grid


@pytest.mark.parametrize("ndim", DIMS)
def test_the_truth_scores_full_marks_and_no_transform_does_not(ndim: int) -> None:
    known = a_pair(ndim)
    before, after = (evaluated(case_of(known), t) for t in (shifted(ndim, 0), known.truth))
    assert before["correlation"] < 0.8 < 0.99 < after["correlation"]
    assert before["local_correlation"] < after["local_correlation"]
    for metrics in (before, after):
        assert (metrics["folding_pct"], metrics["jacobian_min"]) == (0, pytest.approx(1))
        assert metrics["fov_overlap_pct"] == pytest.approx(100)
    json.dumps([before, after], allow_nan=False)


@pytest.mark.parametrize("ndim", DIMS)
def test_labels_landmarks_truth_and_inverse_are_measured_where_given(ndim: int) -> None:
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
    bad = evaluated(full, wrong, wrong.inverse())
    good = evaluated(full, known.truth, shifted(ndim, -3.5))  # an inverse 0.5 mm off
    assert bad["dice"] < 0.95 < good["dice"]
    assert bad["labels"]["1"]["dice"] == pytest.approx(bad["dice"])
    assert good["hd95_mm"] <= 1 < bad["hd95_mm"]
    assert bad["tre_mm"]["mean"] == pytest.approx(3)
    assert bad["true_error_mm"]["mean"] == pytest.approx(3)
    assert bad["inverse_consistency_error_mm"]["max"] == pytest.approx(0, abs=1e-6)
    assert good["inverse_consistency_error_mm"]["mean"] == pytest.approx(0.5)
    assert good["tre_mm"]["mean"] == pytest.approx(0, abs=1e-6)
    assert not {"dice", "tre_mm", "true_error_mm", "inverse_consistency_error_mm"} & set(
        evaluated(case, known.truth)
    )


def test_metrics_are_computed_inside_the_mask() -> None:
    known = a_pair(2)
    spoilt = known.fixed.clone()
    spoilt[:, :, :18] = torch.rand(18, 36, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 36, 36)
    mask[:, :, 20:] = 1
    case = EvaluationCase(read_image((spoilt, known.fixed_grid)), read_image(known.sources[1]))
    masked = dataclasses.replace(case, fixed_mask=read_mask((mask, known.fixed_grid)))
    assert evaluated(masked, known.truth)["correlation"] > 0.99
    assert evaluated(case, known.truth)["correlation"] < 0.9


def test_folding_is_found_in_the_region_and_in_the_whole_field() -> None:
    grid = plain_grid(2, 40)
    known = known_pair(Affine.identity(2), grid, grid)
    gentle, wild = dense_truth(grid, 2.0), dense_truth(grid, 30.0)
    assert evaluated(case_of(known), gentle)["folding_pct"] == 0
    metrics = evaluated(case_of(known), wild)
    assert metrics["folding_pct"] > 0
    assert metrics["jacobian_min"] <= 0
    folded = jacobian_determinant(wild, grid) <= 0
    whole_pct = 100 * float(folded.double().mean())
    assert metrics["folding_whole_field_pct"] == pytest.approx(whole_pct)
    assert whole_pct != pytest.approx(metrics["folding_pct"], rel=0.01)


def test_no_overlap_gives_no_correlation_but_other_metrics() -> None:
    known = a_pair(2)
    metrics = evaluated(case_of(known), shifted(2, 1e3))
    assert metrics["fov_overlap_pct"] == 0
    assert metrics["correlation"] in (None, 0)
    json.dumps(metrics, allow_nan=False)


def test_a_given_moved_image_is_used() -> None:
    known = a_pair(2)
    case = case_of(known)
    moved = warp_image(known.moving, known.moving_grid, known.truth, known.fixed_grid)
    assert evaluated(case, known.truth, moved=moved) == evaluated(case, known.truth)
    other = evaluated(case, known.truth, moved=-moved)
    assert other["correlation"] < -0.99
