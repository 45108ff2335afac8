"""The measures tell correct from wrong registrations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import stn3d
from stn3d.grid import homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.quality import assess_quality
from stn3d.registration.quality_content import content_volume_ratio
from stn3d.registration.quality_measures import measure_quality
from stn3d.transforms import Affine, DisplacementField, Rigid
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import Known, grid_about, known_pair, linear_truth, plain_grid


def value(measure: float | None) -> float:
    assert measure is not None
    return measure


def a_pair(ndim: int) -> Known:
    zero = torch.zeros(ndim, dtype=torch.float64)
    shift = torch.tensor([5.0, -4, 3]).double()[:ndim]
    fixed = plain_grid(ndim, 36)
    moving = grid_about(shift, [42] * ndim, [1.2] * ndim, (-20, 10, 5))
    return known_pair(linear_truth("rigid", zero, shift, 8), fixed, moving)


@pytest.mark.parametrize("ndim", DIMS)
def test_measures_of_the_truth_and_of_a_wrong_answer(ndim: int) -> None:
    known = a_pair(ndim)
    pair = Pair(
        PreparedImage(known.fixed, known.fixed_grid), PreparedImage(known.moving, known.moving_grid)
    )
    right = measure_quality(pair, known.truth, "rigid", "lncc", {})
    assert value(right.restart_disagreement_mm) < 1
    assert right.foreground_inside_fraction > 0.9
    assert right.max_affine_scale == pytest.approx(1, abs=1e-6)
    parameters = Rigid.identity_parameters(ndim)
    parameters[0] = 1.2
    perturbed = Rigid(parameters, known.fixed_grid.centre_mm).then(known.truth)
    wrong = measure_quality(pair, perturbed, "rigid", "lncc", {})
    assert value(wrong.restart_disagreement_fraction) > 3 * value(
        right.restart_disagreement_fraction
    )
    assert value(wrong.similarity_margin_sd) < value(right.similarity_margin_sd)


@pytest.mark.parametrize("ndim", DIMS)
def test_a_slab_is_measured_by_what_it_shows(ndim: int) -> None:
    known = a_pair(ndim)
    n = known.fixed_grid.shape[0]
    start, stop = [n // 3] + [0] * (ndim - 1), [2 * n // 3, *known.fixed_grid.shape[1:]]
    whole = PreparedImage(known.moving, known.moving_grid)
    slab = PreparedImage(known.fixed, known.fixed_grid).cropped(start, stop)
    for pair, truth in (
        (Pair(slab, whole), known.truth),
        (Pair(whole, slab), known.truth.inverse()),
    ):
        measures = measure_quality(pair, truth, "rigid", "lncc", {})
        assert measures.foreground_inside_fraction > 0.9
        assert value(measures.restart_disagreement_mm) < 1.5
        assert assess_quality(measures).status == "good"


def test_volume_changes_come_from_the_metrics() -> None:
    known = a_pair(2)
    pair = Pair(
        PreparedImage(known.fixed, known.fixed_grid), PreparedImage(known.moving, known.moving_grid)
    )
    metrics: dict[str, Any] = {"folding_pct": 1.5, "jacobian_min": -0.2, "jacobian_max": 3.0}
    metrics |= {"abs_log_jacobian_p999": 1.2, "log_jacobian_extreme_at_mm": [1.0, 2.0]}
    metrics["tre_mm"] = {"mean": 0.36, "p95": 1.0, "max": 1.8}
    measures = measure_quality(pair, known.truth, "rigid", "lncc", metrics)
    assert measures.folding_pct == 1.5
    assert measures.max_abs_log_jacobian == pytest.approx(6.9, abs=0.1)
    assert measures.abs_log_jacobian_p999 == 1.2
    assert measures.log_jacobian_extreme_at_mm == [1.0, 2.0]
    assert measures.landmark_error_fraction == pytest.approx(0.36 / 36)
    assert measures.max_landmark_error_fraction == pytest.approx(1.8 / 36)
    unmeasured = {"folding_pct": None, "jacobian_min": None, "jacobian_max": None}
    measures = measure_quality(pair, Affine.identity(2), "rigid", "lncc", unmeasured)
    assert measures.max_abs_log_jacobian == 0


def test_an_initial_transform_that_ends_in_a_field_is_measured_as_a_whole() -> None:
    known = a_pair(3)
    pair = Pair(
        PreparedImage(known.fixed, known.fixed_grid), PreparedImage(known.moving, known.moving_grid)
    )
    zero = torch.zeros(1, 3, *known.moving_grid.shape)
    whole = known.truth.then(DisplacementField(zero, known.moving_grid))
    measures = measure_quality(pair, whole, "rigid", "lncc", {})
    assert value(measures.restart_disagreement_mm) < 1
    assert measures.max_affine_scale == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("ndim", DIMS)
def test_registering_noise_does_not_pass_for_good(ndim: int) -> None:
    torch.manual_seed(0)
    known = a_pair(ndim)
    noise = torch.rand(known.moving_grid.shape)
    found = stn3d.register(
        (known.fixed[0, 0], known.fixed_grid), (noise, known.moving_grid), estimator="optimiser"
    )
    assert found.metrics["quality"]["status"] != "good"
    assert found.metrics["quality"]["suggestion"]


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("slices", [2, 3, 5])
def test_a_stack_of_few_thick_slices_is_not_called_failed(axis: int, slices: int) -> None:
    """The true transform of a stack: what is found from within its plane agrees with it."""
    shift = [3.0, -2, 1]
    shift[axis] = 0.0
    size, spacing = [36.0] * 3, [1.0] * 3
    size[axis], spacing[axis] = 4.0 * slices, 4.0
    grid = grid_about(torch.zeros(3), size, spacing)
    truth = Affine.from_matrix(homogeneous(torch.eye(3).double(), torch.tensor(shift).double()))
    known = known_pair(truth, grid, grid)
    measures = measure_quality(known.pair, truth, "rigid", "lncc", {})
    assert f"translation along {'xyz'[axis]}" in measures.untested
    assert assess_quality(measures).status == "good"


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("factor", [0.7, 1.5])
def test_a_deformation_that_inflates_the_content_is_measured(ndim: int, factor: float) -> None:
    known = a_pair(ndim)
    pair = Pair(
        PreparedImage(known.fixed, known.fixed_grid), PreparedImage(known.moving, known.moving_grid)
    )
    grid, truth = known.fixed_grid, known.truth
    assert content_volume_ratio(pair, truth) == 1
    towards = (factor ** (-1 / ndim) - 1) * (grid.points_mm() - grid.centre_mm)
    field = DisplacementField(towards.movedim(-1, 0)[None].float(), grid)
    assert content_volume_ratio(pair, field.then(truth)) == pytest.approx(factor, rel=0.15)
    nothing = DisplacementField(torch.zeros(1, ndim, *grid.shape), grid)
    assert content_volume_ratio(pair, nothing.then(truth)) == pytest.approx(1, abs=1e-3)


def test_repeated_registrations_may_be_of_another_kind_than_the_result() -> None:
    known = a_pair(2)
    rigid = measure_quality(known.pair, known.truth, "rigid", "nmi", {})
    affine = measure_quality(known.pair, known.truth, "affine", "nmi", {})
    mixed = measure_quality(known.pair, known.truth, "affine", "nmi", {}, "rigid")
    assert mixed.restart_disagreement_mm == rigid.restart_disagreement_mm
    assert mixed.restart_disagreement_mm != affine.restart_disagreement_mm


def test_an_image_of_much_larger_scale_has_a_margin() -> None:
    """The larger body fills its field of view, of which the smaller one's is a small part."""
    truth = Affine.from_matrix(homogeneous(1.9 * torch.eye(3).double(), torch.zeros(3).double()))
    known = known_pair(truth, plain_grid(3, 36.0), plain_grid(3, 36.0))
    measures = measure_quality(known.pair, truth, "affine", "lncc", {})
    assert value(measures.similarity_margin_sd) > 6
    assert assess_quality(measures).status == "check"


def test_restarts_of_the_truth_do_not_fit_better_where_they_end() -> None:
    known = a_pair(3)
    measures = measure_quality(known.pair, known.truth, "rigid", "lncc", {})
    assert value(measures.restart_excess_fraction) == pytest.approx(0, abs=1e-3)
    start = Rigid(torch.tensor([0.6, 0, 0, 0, 0, 0]).double(), known.fixed_grid.centre_mm)
    wrong = measure_quality(known.pair, start.then(known.truth), "rigid", "lncc", {})
    assert value(wrong.restart_disagreement_fraction) > 0.04
    assert assess_quality(wrong).status == "failed"
