"""Heads of different contrast whose best candidate is wrong are aligned by their structures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stn3d.grid import Grid
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.automatic import SelectedMetric
from stn3d.registration.initialisation.finder import Finder, Initialisation, Round
from stn3d.registration.initialisation.heads import by_structures
from stn3d.registration.initialisation.strategies import NetworkEstimate, header
from stn3d.registration.settings import settings_from
from stn3d.registration.structures import PairStructures
from stn3d.transforms import Affine
from tests.nets.test_head_structures import GRID, classes_of
from tests.registration.test_structures import moved, rotation

DIFFERENT = SelectedMetric("nmi", "the contrasts differ", {})
AUTO = settings_from({})
TWO_ROUNDS = (Round((header,), 1), Round((), 1))


def t1_and_t2(grid: Grid) -> Pair:
    """The head of the tests in two contrasts; the second one on the moved grid."""
    classes = classes_of().float()
    t1 = torch.where(classes > 0, 0.2 + 0.8 * (classes % 7) / 7, 0.0)
    t2 = torch.where(classes > 0, 0.2 + 0.8 * (classes * 3 % 8) / 8, 0.0)
    return Pair(PreparedImage(t1, GRID), PreparedImage(t2, grid))


def heads() -> tuple[Finder, PairStructures, Affine]:
    structures, truth = moved(rotation(70.0), (30.0, -20.0, 10.0))
    pair = t1_and_t2(structures.moving.grid)
    finder = Finder(pair, "affine", TWO_ROUNDS, NetworkEstimate(pair, "affine"))
    finder.__dict__["structures"] = structures  # as if the network had found them
    return finder, structures, truth


def found(finder: Finder, transform: Affine, selected: SelectedMetric | None) -> Initialisation:
    candidate = finder.coarse("nmi").scored("header", transform)
    return Initialisation("nmi", selected, [candidate], finder.network)


def distance_mm(a: Affine, b: Affine) -> float:
    points = GRID.points_mm()[classes_of(skull=False)[0, 0] > 0]
    return float((a(points) - b(points)).norm(dim=1).mean())


@pytest.mark.parametrize("selected", [DIFFERENT, None])
def test_a_wrong_candidate_is_replaced(selected: SelectedMetric | None) -> None:
    finder, structures, truth = heads()
    before = found(finder, Affine.identity(3), selected)
    after = by_structures(
        finder, before, settings_from({"metric": "auto" if selected else "nmi"}), (False, True)
    )
    assert after is not None
    assert [one.name for one in after.candidates] == ["structures", "header"]
    best = after.best.transform
    assert isinstance(best, Affine)
    assert distance_mm(best, truth) < 0.5
    assert after.structures is not None
    assert after.structures.is_ct
    assert after.structures.intensities_mislead
    assert after.structures.fixed is structures.fixed
    if selected is None:
        assert after.selected_metric is None
        assert after.metric == "nmi"
    else:
        assert after.selected_metric is not None
        assert after.selected_metric.evidence == {"ct": [False, True]}


def test_a_candidate_that_aligns_the_structures_stays() -> None:
    finder, _, truth = heads()
    before = found(finder, truth, DIFFERENT)
    after = by_structures(finder, before, AUTO, (False, False))
    assert after is not None
    assert after.candidates is before.candidates
    assert after.structures is not None


def test_a_linear_registration_of_aligned_heads_needs_no_structures() -> None:
    finder, _, truth = heads()
    rigid = settings_from({"kind": "rigid"})
    before = found(finder, truth, DIFFERENT)
    for loss, needed in ((0.7, False), (0.85, True)):
        candidates = [replace(before.best, loss=loss)]
        after = by_structures(finder, replace(before, candidates=candidates), rigid, (False, False))
        assert (after is not None) == needed


def test_a_transform_that_was_asked_for_stays() -> None:
    finder, _, _ = heads()
    single = replace(finder, rounds=TWO_ROUNDS[:1])
    single.__dict__["structures"] = finder.structures
    before = found(single, Affine.identity(3), DIFFERENT)
    after = by_structures(single, before, AUTO, (False, False))
    assert after is not None
    assert after.candidates is before.candidates


def test_images_of_the_same_contrast_and_other_objects_need_no_structures() -> None:
    finder, _, _ = heads()
    same = replace(DIFFERENT, evidence={"positive_local_correlation_fraction": 0.95})
    assert (
        by_structures(finder, found(finder, Affine.identity(3), same), AUTO, (False, False)) is None
    )
    finder.__dict__["structures"] = None
    before = found(finder, Affine.identity(3), DIFFERENT)
    assert by_structures(finder, before, AUTO, (False, False)) is None


def test_a_contrast_that_may_differ_needs_the_structures() -> None:
    finder, _, _ = heads()
    evidence = {"positive_local_correlation_fraction": 0.9, "nonlinear_variance_fraction": 0.1}
    doubtful = SelectedMetric("lncc", "the contrast may be the same", evidence)
    candidate = finder.coarse("lncc").scored("header", Affine.identity(3))
    before = Initialisation("lncc", doubtful, [candidate], finder.network)
    after = by_structures(finder, before, AUTO, (False, False))
    assert after is not None
    assert after.best.name == "structures"
