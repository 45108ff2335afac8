"""The search over turns, when it is made, and the metric that the images tell where they lie."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.registration.initialisation import candidates as initialise
from stn3d.registration.initialisation.candidates import Coarse, initial_candidates
from stn3d.registration.initialisation.strategies import Starts
from stn3d.registration.settings import settings_from
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS, rotation
from tests.helpers.synthetic import Known, known_pair, linear_truth, plain_grid

# 75 to 90 degrees about two axes.
TURNS_DEG = {2: [(155.0,), (-165.0,)], 3: [(75.0, -90.0, 0.0), (90.0, 0.0, -80.0)]}


def turned_pair(ndim: int, turn_deg: tuple[float, ...]) -> Known:
    """One anatomy seen from another side, off the middle, on coarse grids."""
    shift = torch.tensor([4.0, -3, 2]).double()[:ndim]
    truth = Affine.from_matrix(homogeneous(rotation(ndim, turn_deg), shift))
    return known_pair(truth, plain_grid(ndim, 36, 1.5), plain_grid(ndim, 42, 1.5), shift)


def near_pair(ndim: int) -> Known:
    shift = torch.tensor([4.0, -3, 2]).double()[:ndim]
    truth = linear_truth("rigid", torch.zeros(ndim).double(), shift, 8)
    return known_pair(truth, plain_grid(ndim, 36, 1.5), plain_grid(ndim, 42, 1.5), shift)


def two_contrasts(known: Known) -> Pair:
    """The fixed image with its middle brightness brightest."""
    scan = known.pair.fixed
    image = torch.where(scan.image < 0.5, 2 * scan.image, 1.6 - 1.2 * scan.image).clamp(0, 1)
    return replace(known.pair, fixed=replace(scan, image=image))


def starts(pair: Pair, ct: tuple[bool, bool] = (False, False), **options: Any) -> Starts:
    options = {"estimator": "optimiser", "kind": "rigid"} | options
    return Starts(pair, settings_from(options), ct)


@pytest.fixture
def misled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Principal axes tell nothing, as where a coil's bright side or a cut field of view draws
    them."""
    monkeypatch.setattr(initialise, "_by_moments", lambda *_: [])


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(*_: Any) -> Any:
        raise AssertionError("nothing was to be searched")

    monkeypatch.setattr(Coarse, "searched", searched)


def angle_deg(a: Tensor, b: Tensor) -> float:
    turn = a @ b.T
    cosine = (turn.trace() - (len(turn) - 2)) / 2
    return float(torch.rad2deg(torch.acos(cosine.clamp(-1, 1))))


# -- the search -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", DIMS)
def test_the_search_keeps_the_best_of_every_side(ndim: int) -> None:
    coarse = Coarse.of(turned_pair(ndim, TURNS_DEG[ndim][0]).pair, "lncc", "rigid")
    every = coarse.searched(keep=4)
    assert {one.name for one in every} == {"search"}
    found = every[:4]  # shifts follow, where one field of view can slide within the other
    assert [one.name for one in found] == ["search"] * 4
    turns = [one.transform.linear_part() for one in found]  # type: ignore[attr-defined]
    for turn in turns:
        torch.testing.assert_close(turn @ turn.T, torch.eye(ndim).double())
    assert all(angle_deg(a, b) > 30 for a, b in combinations(turns, 2))
    losses = [one.loss for one in found]
    assert losses == sorted(losses)
    again = coarse.searched(keep=4)[:4]
    assert [one.loss for one in again] == losses


@pytest.mark.parametrize(
    ("ndim", "turn_deg"), [(d, turn_deg) for d in DIMS for turn_deg in TURNS_DEG[d]]
)
@pytest.mark.usefixtures("misled")
def test_the_search_finds_what_no_plain_guess_does(ndim: int, turn_deg: tuple[float, ...]) -> None:
    known = turned_pair(ndim, turn_deg)
    plain = initial_candidates(known.pair, "auto", "lncc")
    assert min(known.error_mm(one.transform) for one in plain) > 5
    metric, choice, found = starts(known.pair).find()
    assert known.error_mm(found[0].transform) < 0.5
    assert found[0].name == "search"
    assert (metric, choice is not None and choice.value) == ("lncc", "lncc")
    assert {"header", "centres", "mass"} < {one.name for one in found}  # all are told


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.usefixtures("no_search")
def test_a_plain_guess_beyond_doubt_spares_the_search(ndim: int) -> None:
    known = near_pair(ndim)
    metric, choice, found = starts(known.pair).find()
    assert choice is not None
    assert (metric, choice.value) == ("lncc", "lncc")
    assert known.error_mm(found[0].transform) < 1


# -- the metric -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", DIMS)
def test_two_contrasts_go_on_by_information(ndim: int) -> None:
    known = near_pair(ndim)
    metric, choice, found = starts(two_contrasts(known)).find()
    assert choice is not None
    assert (metric, choice.value) == ("nmi", "nmi")
    assert "two contrasts" in choice.reason
    assert known.error_mm(found[0].transform) < 2
    assert found[0].loss <= 1.01 * min(one.loss for one in found)  # alike: the plainest


@pytest.mark.parametrize("metric", ["lncc", "ncc", "mse"])
@pytest.mark.usefixtures("no_search")
def test_a_metric_that_is_given_stands(metric: str) -> None:
    """Though the images show two contrasts; a method that is given spares the search too."""
    known = near_pair(2)
    found = starts(two_contrasts(known), metric=metric, init="mass").find()
    assert found[:2] == (metric, None)
    assert [one.name for one in found[2]] == ["mass"]


@pytest.mark.parametrize("method", ["header", "centres", "mass", "moments"])
@pytest.mark.parametrize(("colours", "expected"), [(False, "lncc"), (True, "nmi")])
@pytest.mark.usefixtures("no_search")
def test_a_method_that_is_given_is_where_the_images_are_asked(
    method: str, colours: bool, expected: str
) -> None:
    shift = torch.tensor([0.5, -0.5]).double()
    truth = linear_truth("rigid", torch.zeros(2).double(), shift, 1)
    known = known_pair(truth, plain_grid(2, 36), plain_grid(2, 36), torch.zeros(2).double())
    pair = two_contrasts(known) if colours else known.pair
    metric, choice, found = starts(pair, init=method).find()
    assert {one.name for one in found} == {method}
    assert choice is not None
    assert metric == choice.value == expected


def test_ct_beside_mr_is_known_without_a_look() -> None:
    known = near_pair(2)
    metric, choice, found = starts(known.pair, (True, False)).find()
    assert metric == "nmi"
    assert choice is not None
    assert "CT" in choice.reason
    assert known.error_mm(found[0].transform) < 2


# -- the network ----------------------------------------------------------------------------------


def test_the_network_alone_needs_a_head() -> None:
    """The one that is shipped is for 3D."""
    pair = near_pair(2).pair
    with pytest.raises(InputError, match=r"the affine network .* --estimator auto"):
        starts(pair, estimator="network").find()
    assert starts(pair, estimator="network", init="mass").find()[2][0].name == "mass"
    assert starts(pair, estimator="network").head is None  # asked by the kind: no reason to stop


@pytest.mark.parametrize("estimator", ["auto", "both"])
def test_without_a_head_plain_guesses_do(estimator: str) -> None:
    known = near_pair(2)
    found = starts(known.pair, estimator=estimator).find()[2]
    assert known.error_mm(found[0].transform) < 1
    assert "network" not in {one.name for one in found}


@pytest.mark.usefixtures("no_search", "misled")
def test_a_network_that_agrees_removes_the_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    known = turned_pair(3, TURNS_DEG[3][0])
    monkeypatch.setattr(Starts, "head", known.truth)
    found = starts(known.pair, estimator="auto").candidates("lncc")
    assert found[0].name == "network"
    assert known.error_mm(found[0].transform) < 0.5


def test_guesses_of_another_metric_are_scored_anew() -> None:
    pair = near_pair(3).pair
    by_information = replace(starts(pair).candidates("nmi")[0], name="elsewhere")
    found = starts(pair).candidates("lncc", [by_information])
    again = next(one for one in found if one.name == "elsewhere")
    assert by_information.loss > 0.5
    assert again.loss < 0.15  # as local correlation has it
