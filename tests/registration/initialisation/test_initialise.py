"""The order of the strategies, when the search is used, and the selection of the metric."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from stn3d.errors import InputError
from stn3d.grid import homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.registration.initialisation import initialise as module
from stn3d.registration.initialisation import strategies
from stn3d.registration.initialisation.candidates import CoarsePair
from stn3d.registration.initialisation.finder import Finder, Initialisation, Round
from stn3d.registration.initialisation.initialise import initialise
from stn3d.registration.initialisation.search import rotations
from stn3d.registration.initialisation.strategies import (
    NetworkEstimate,
    header,
    simple_candidates,
)
from stn3d.registration.settings import settings_from
from stn3d.registration.stages import LinearStage
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS, rotation
from tests.helpers.synthetic import Known, dense_truth, known_pair, linear_truth, plain_grid

NAMES = {"mass": "centre_of_mass"}  # of candidates, where they differ from the method's
# 75 to 90 degrees about two axes.
TURNS_DEG = {2: [(155.0,), (-165.0,)], 3: [(75.0, -90.0, 0.0), (90.0, 0.0, -80.0)]}


def turned_pair(ndim: int, turn_deg: tuple[float, ...]) -> Known:
    """One anatomy seen from another side, away from the centre, on coarse grids."""
    shift = torch.tensor([4.0, -3, 2]).double()[:ndim]
    truth = Affine.from_matrix(homogeneous(rotation(ndim, turn_deg), shift))
    return known_pair(truth, plain_grid(ndim, 36, 1.5), plain_grid(ndim, 42, 1.5), shift)


def near_pair(ndim: int) -> Known:
    shift = torch.tensor([4.0, -3, 2]).double()[:ndim]
    truth = linear_truth("rigid", torch.zeros(ndim).double(), shift, 8)
    return known_pair(truth, plain_grid(ndim, 36, 1.5), plain_grid(ndim, 42, 1.5), shift)


def two_contrasts(known: Known) -> Pair:
    """The fixed image with its medium intensities brightest."""
    scan = known.pair.fixed
    image = torch.where(scan.image < 0.5, 2 * scan.image, 1.6 - 1.2 * scan.image).clamp(0, 1)
    return replace(known.pair, fixed=replace(scan, image=image))


def initialised(
    pair: Pair, ct: tuple[bool, bool] = (False, False), **options: Any
) -> Initialisation:
    options = {"estimator": "optimiser", "kind": "rigid"} | options
    return initialise(pair, settings_from(options), ct)


@pytest.fixture
def no_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Principal axes are of no use, as with an intensity bias or a cropped field of view."""
    monkeypatch.setattr(strategies, "principal_axes_alignments", lambda *_: [])


@pytest.fixture
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: Any) -> Any:
        raise AssertionError("the search was not to be used")

    monkeypatch.setattr(module, "exhaustive_search", search)


# -- the search -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ndim", "turn_deg"), [(d, turn_deg) for d in DIMS for turn_deg in TURNS_DEG[d]]
)
@pytest.mark.usefixtures("no_axes")
def test_the_search_finds_what_no_simple_strategy_does(
    ndim: int, turn_deg: tuple[float, ...]
) -> None:
    known = turned_pair(ndim, turn_deg)
    simple = simple_candidates(known.pair, "auto", "lncc")
    assert min(known.error_mm(one.transform) for one in simple) > 5
    start = initialised(known.pair)
    assert known.error_mm(start.best.transform) < 0.5
    assert start.best.name == "search"
    assert start.selected_metric is not None
    assert (start.metric, start.selected_metric.choice) == ("lncc", "lncc")
    names = {one.name for one in start.candidates}
    assert {"header", "centres", "centre_of_mass"} < names  # all are reported


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.usefixtures("no_search")
def test_a_certain_simple_candidate_makes_the_search_unnecessary(ndim: int) -> None:
    known = near_pair(ndim)
    start = initialised(known.pair)
    assert start.selected_metric is not None
    assert (start.metric, start.selected_metric.choice) == ("lncc", "lncc")
    assert known.error_mm(start.best.transform) < 1


@pytest.mark.usefixtures("no_search")
def test_a_loss_that_is_convincing_at_half_the_resolution_is_certain() -> None:
    """Noise that the coarser grid averages out."""
    known = known_pair(
        near_pair(3).truth, plain_grid(3, 40), plain_grid(3, 46), torch.zeros(3).double()
    )
    noise = np.random.default_rng(3).normal(0, 0.03, known.pair.moving.image.shape)
    image = known.pair.moving.image + torch.from_numpy(noise).float()
    pair = replace(known.pair, moving=replace(known.pair.moving, image=image))
    start = initialised(pair)
    coarse = CoarsePair.of(pair, "lncc", "rigid")
    assert start.best.loss > 0.15
    assert not coarse.is_convincing(start.best)
    assert coarse.is_convincing_at_half(start.best)
    assert known.error_mm(start.best.transform) < 2


def test_nothing_is_scored_or_refined_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, refined = Counter[bytes](), Counter[bytes]()
    loss, stage = CoarsePair.loss, LinearStage.__call__

    def counted_loss(self: CoarsePair, transform: Any) -> float:
        losses[self.metric.encode() + transform.matrix.numpy().tobytes()] += 1
        return loss(self, transform)

    def counted_stage(self: LinearStage, pair: Pair, current: Any, progress: Any) -> Any:
        refined[self.metric.encode() + current.matrix.numpy().tobytes()] += 1
        return stage(self, pair, current, progress)

    monkeypatch.setattr(CoarsePair, "loss", counted_loss)
    monkeypatch.setattr(CoarsePair, "half", property(lambda self: self))
    monkeypatch.setattr(LinearStage, "__call__", counted_stage)
    monkeypatch.setattr(strategies, "principal_axes_alignments", lambda *_: [])
    monkeypatch.setattr(strategies, "rotations", lambda *_: rotations(3, 40))
    initialised(turned_pair(3, TURNS_DEG[3][0]).pair)
    assert set(refined.values()) == {1}
    once = [key for key, count in losses.items() if count == 1]
    assert max(losses.values()) <= 2  # the search compares, then scores those that it keeps
    assert len(once) > 20


# -- the metric -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", DIMS)
def test_different_contrasts_select_mutual_information(ndim: int) -> None:
    known = near_pair(ndim)
    start = initialised(two_contrasts(known))
    assert start.selected_metric is not None
    assert (start.metric, start.selected_metric.choice) == ("nmi", "nmi")
    assert "different contrasts" in start.selected_metric.reason
    assert known.error_mm(start.best.transform) < 2
    lowest = min(one.loss for one in start.candidates)
    assert start.best.loss <= 1.01 * lowest  # of equal ones the simplest


@pytest.mark.parametrize("metric", ["lncc", "ncc", "mse"])
@pytest.mark.usefixtures("no_search")
def test_a_given_metric_is_kept(metric: str) -> None:
    """Although the images have different contrasts; a given method avoids the search too."""
    known = near_pair(2)
    start = initialised(two_contrasts(known), metric=metric, init="mass")
    assert (start.metric, start.selected_metric) == (metric, None)
    assert [one.name for one in start.candidates] == ["centre_of_mass"]


@pytest.mark.parametrize("method", ["header", "centres", "mass", "moments"])
@pytest.mark.parametrize(("recoloured", "expected"), [(False, "lncc"), (True, "nmi")])
@pytest.mark.usefixtures("no_search")
def test_a_given_method_aligns_the_images_for_the_selection(
    method: str, recoloured: bool, expected: str
) -> None:
    shift = torch.tensor([0.5, -0.5]).double()
    truth = linear_truth("rigid", torch.zeros(2).double(), shift, 1)
    known = known_pair(truth, plain_grid(2, 36), plain_grid(2, 36), torch.zeros(2).double())
    pair = two_contrasts(known) if recoloured else known.pair
    start = initialised(pair, init=method)
    assert {one.name for one in start.candidates} == {NAMES.get(method, method)}
    assert start.selected_metric is not None
    assert start.metric == start.selected_metric.choice == expected


@pytest.mark.parametrize("metric", ["auto", "ncc"])
@pytest.mark.usefixtures("no_search")
def test_a_given_transform_is_used_as_it_is(metric: str) -> None:
    known = near_pair(2)
    field = dense_truth(plain_grid(2, 8)).then(known.truth)
    for given in (known.truth, field):
        pair, settings = known.pair, settings_from({"metric": metric})
        start = initialise(pair, settings, given=given)
        assert [one.name for one in start.candidates] == ["given"]
        assert start.best.transform is given
        assert math.isnan(start.best.loss)
        assert start.best.as_dict()["loss"] is None
        assert start.best.fov_overlap_fraction > 0.7
        assert start.metric == ("lncc" if metric == "auto" else metric)
        assert (start.selected_metric is None) == (metric != "auto")


def test_ct_and_mr_select_mutual_information_without_a_comparison() -> None:
    known = near_pair(2)
    start = initialised(known.pair, (True, False))
    assert start.metric == "nmi"
    assert start.selected_metric is not None
    assert "CT" in start.selected_metric.reason
    assert known.error_mm(start.best.transform) < 2


# -- the network ----------------------------------------------------------------------------------


def test_the_network_alone_needs_a_head() -> None:
    """The bundled one is for 3D."""
    pair = near_pair(2).pair
    with pytest.raises(InputError, match=r"the affine network .* --estimator auto"):
        initialised(pair, estimator="network")
    start = initialised(pair, estimator="network", init="mass")
    assert start.best.name == "centre_of_mass"
    assert start.network.transform is None  # for the selection of the kind: no reason to stop


@pytest.mark.parametrize("estimator", ["auto", "both"])
def test_without_a_head_simple_candidates_suffice(estimator: str) -> None:
    known = near_pair(2)
    start = initialised(known.pair, estimator=estimator)
    assert known.error_mm(start.best.transform) < 1
    assert "network" not in {one.name for one in start.candidates}


@pytest.mark.usefixtures("no_search", "no_axes")
def test_a_network_that_agrees_removes_the_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    known = turned_pair(3, TURNS_DEG[3][0])
    monkeypatch.setattr(NetworkEstimate, "transform", known.truth)
    start = initialised(known.pair, estimator="auto", metric="lncc")
    assert start.best.name == "network"
    assert known.error_mm(start.best.transform) < 0.5


@pytest.mark.usefixtures("no_search")
def test_candidates_of_another_metric_are_scored_again() -> None:
    pair = near_pair(3).pair
    by_nmi = replace(initialised(pair, metric="nmi", init="moments").best, name="elsewhere")
    finder = Finder(pair, "rigid", (Round((header,), 3),), NetworkEstimate(pair, "rigid"))
    again = next(one for one in finder.find("lncc", [by_nmi]) if one.name == "elsewhere")
    assert by_nmi.loss > 0.5
    assert again.loss < 0.15  # of lncc
