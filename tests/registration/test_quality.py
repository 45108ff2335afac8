"""A verdict follows from signs, and the signs tell a registration that is right from one that is
not."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch

import stn3d
from stn3d.preprocessing.pair import Pair, PreparedImage
from stn3d.registration.quality import Signs, judge, measure
from stn3d.transforms import Affine, DisplacementField, Rigid
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import Known, grid_about, known_pair, linear_truth, plain_grid

SOUND = Signs(
    disagreement=0.004,
    disagreement_mm=0.8,
    margin=30.0,
    overlap=1.0,
    stretch=1.05,
    folding_pct=0.0,
    largest_log_jac=0.7,
)


def a_pair(ndim: int) -> Known:
    zero = torch.zeros(ndim, dtype=torch.float64)
    shift = torch.tensor([5.0, -4, 3]).double()[:ndim]
    fixed = plain_grid(ndim, 36)
    moving = grid_about(shift, [42] * ndim, [1.2] * ndim, (-20, 10, 5))
    return known_pair(linear_truth("rigid", zero, shift, 8), fixed, moving)


def test_sound_signs_are_good_and_need_no_remedy() -> None:
    verdict = judge(SOUND)
    assert (verdict.word, verdict.remedy) == ("good", "")
    assert "0.8 mm" in verdict.reason
    assert json.loads(json.dumps(verdict.as_dict()))["signs"]["overlap"] == 1.0


@pytest.mark.parametrize(
    ("change", "word", "told"),
    [
        ({"overlap": 0.05}, "failed", "5%"),
        ({"overlap": 0.25}, "check", "25%"),
        ({"disagreement": 0.2, "disagreement_mm": 40.0}, "failed", "40 mm"),
        ({"disagreement": 0.03, "disagreement_mm": 6.0}, "check", "6 mm"),
        ({"stretch": 3.0}, "failed", "3.00"),
        ({"stretch": 1.5}, "check", "1.50"),
        ({"margin": 0.5}, "failed", "hardly better"),
        ({"margin": 4.0}, "check", "hardly better"),
        ({"folding_pct": 5.0}, "failed", "5.00 %"),
        ({"folding_pct": 0.5}, "check", "0.50 %"),
        ({"largest_log_jac": 6.0}, "check", "factor of 403"),
    ],
)
def test_one_bad_sign_is_enough(change: dict[str, float], word: str, told: str) -> None:
    verdict = judge(dataclasses.replace(SOUND, **change))
    assert verdict.word == word
    assert told in verdict.reason
    assert verdict.remedy.endswith(".")


def test_a_failure_outweighs_what_should_only_be_checked() -> None:
    signs = dataclasses.replace(SOUND, overlap=0.25, stretch=5.0)
    assert judge(signs).word == "failed"


@pytest.mark.parametrize("ndim", DIMS)
def test_signs_of_the_truth_and_of_a_wrong_answer(ndim: int) -> None:
    known = a_pair(ndim)
    pair = Pair(
        PreparedImage(known.fixed, known.fixed_grid), PreparedImage(known.moving, known.moving_grid)
    )
    right = measure(pair, known.truth, "rigid", "lncc", {})
    assert right.disagreement_mm < 1
    assert right.overlap > 0.9
    assert right.stretch == pytest.approx(1, abs=1e-6)
    parameters = Rigid.identity_parameters(ndim)
    parameters[0] = 1.2
    aside = Rigid(parameters, known.fixed_grid.centre_mm).then(known.truth)
    wrong = measure(pair, aside, "rigid", "lncc", {})
    assert wrong.disagreement > 3 * right.disagreement
    assert wrong.margin < right.margin


@pytest.mark.parametrize("ndim", DIMS)
def test_a_slab_is_judged_by_what_it_shows(ndim: int) -> None:
    known = a_pair(ndim)
    n = known.fixed_grid.shape[0]
    start, stop = [n // 3] + [0] * (ndim - 1), [2 * n // 3, *known.fixed_grid.shape[1:]]
    whole = PreparedImage(known.moving, known.moving_grid)
    slab = PreparedImage(known.fixed, known.fixed_grid).framed(start, stop)
    for pair, truth in (
        (Pair(slab, whole), known.truth),
        (Pair(whole, slab), known.truth.inverse()),
    ):
        signs = measure(pair, truth, "rigid", "lncc", {})
        assert signs.overlap > 0.9
        assert signs.disagreement_mm < 1.5
        assert judge(signs).word == "good"


def test_changes_of_volume_come_from_the_figures() -> None:
    known = a_pair(2)
    pair = Pair(
        PreparedImage(known.fixed, known.fixed_grid), PreparedImage(known.moving, known.moving_grid)
    )
    figures: dict[str, Any] = {"folding_pct": 1.5, "jacobian_min": -0.2, "jacobian_max": 3.0}
    signs = measure(pair, known.truth, "rigid", "lncc", figures)
    assert signs.folding_pct == 1.5
    assert signs.largest_log_jac == pytest.approx(6.9, abs=0.1)
    unmeasured = {"folding_pct": None, "jacobian_min": None, "jacobian_max": None}
    assert measure(pair, Affine.identity(2), "rigid", "lncc", unmeasured).largest_log_jac == 0


def test_a_start_that_ends_in_a_field_is_judged_as_a_whole() -> None:
    known = a_pair(3)
    pair = Pair(
        PreparedImage(known.fixed, known.fixed_grid), PreparedImage(known.moving, known.moving_grid)
    )
    zero = torch.zeros(1, 3, *known.moving_grid.shape)
    whole = known.truth.then(DisplacementField(zero, known.moving_grid))
    signs = measure(pair, whole, "rigid", "lncc", {})
    assert signs.disagreement_mm < 1
    assert signs.stretch == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("ndim", DIMS)
def test_registering_noise_does_not_pass_for_good(ndim: int) -> None:
    torch.manual_seed(0)
    known = a_pair(ndim)
    noise = torch.rand(known.moving_grid.shape)
    found = stn3d.register(
        (known.fixed[0, 0], known.fixed_grid), (noise, known.moving_grid), estimator="optimiser"
    )
    assert found.metrics["verdict"]["word"] != "good"
    assert found.metrics["verdict"]["remedy"]
