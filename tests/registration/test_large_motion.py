"""The automatic selection of the discrete search, and where it begins."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.memory.limit import memory_limit
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.large_motion import (
    large_motion_of,
    stages_with_search,
)
from stn3d.registration.settings import Settings, settings_from
from stn3d.transforms import Affine, Transform
from tests.helpers.sliding import SlidingPair, sliding_pair

SETTINGS = Settings(kind="deformable", metric="lncc")
IDENTITY = Affine.identity(2)


@pytest.fixture(scope="module")
def known() -> SlidingPair:
    return sliding_pair(2, 20.0)


def shifted(mm: float) -> Transform:
    matrix = torch.eye(3).double()
    matrix[1, 2] = mm
    return Affine.from_matrix(matrix)


def test_a_third_that_moves_by_20_mm_is_large_motion(known: SlidingPair) -> None:
    found = large_motion_of(known.pair, known.pair, SETTINGS, (IDENTITY, IDENTITY))
    assert found.runs
    assert found.selection is not None
    assert found.selection.choice == "on"
    assert found.selection.evidence["displaced_fraction"] == pytest.approx(1 / 3, abs=0.1)
    small = sliding_pair(2, 3.0).pair
    found = large_motion_of(small, small, SETTINGS, (IDENTITY, IDENTITY))
    assert found.selection is not None
    assert (found.runs, found.selection.choice) == (False, "off")
    assert found.selection.evidence["displaced_fraction"] < 0.02


def test_the_headers_are_right_where_the_linear_stages_gained_little() -> None:
    """A part that moves by less than the limit misled them; a search from the headers shows it."""
    pair = sliding_pair(2, 3.0).pair
    found = large_motion_of(pair, pair, SETTINGS, (IDENTITY, shifted(4.0)))
    assert found.selection is not None
    assert found.selection.choice == "on"
    assert found.selection.evidence["header_loss_ratio"] < 0.97
    assert found.selection.evidence["still_fraction"] == pytest.approx(2 / 3, abs=0.1)
    assert torch.equal(found.start(torch.ones(1, 2)), torch.ones(1, 2))
    assert found.linear is not None


def test_the_headers_are_no_start_where_nothing_lies_still() -> None:
    """As between two people, where a search from either transform may end with a low loss."""
    grid = sliding_pair(2, 3.0).pair.fixed.grid
    fixed, moving = sliding_pair(2, 0.0).pair, sliding_pair(2, 3.0).pair
    lower = shifted(-6.0).matrix @ grid.world_from_index
    pair = Pair(fixed.fixed, PreparedImage(moving.fixed.image, Grid(grid.shape, lower)))
    found = large_motion_of(pair, pair, SETTINGS, (IDENTITY, shifted(-6.0)))
    assert found.selection is not None
    assert (found.runs, found.selection.choice) == (False, "off")
    assert found.selection.evidence["still_fraction"] < 0.3
    assert found.selection.evidence["header_loss_ratio"] is None


def test_images_that_agree_do_not_move_far() -> None:
    image = sliding_pair(2, 3.0).pair.fixed
    same = Pair(image, image)
    found = large_motion_of(same, same, SETTINGS, (IDENTITY, IDENTITY))
    assert found.selection is not None
    assert (found.runs, found.selection.choice) == (False, "off")


def test_the_search_begins_where_it_gets_furthest(known: SlidingPair) -> None:
    """The linear stages were misled by a third of the images; the initial transform by more."""
    on = dataclasses.replace(SETTINGS, large_motion="on")
    misled, further = shifted(17.0), shifted(-40.0)
    found = large_motion_of(known.pair, known.pair, on, (further, misled))
    assert found.selection is None
    assert found.runs
    assert torch.equal(found.start(torch.zeros(1, 2)), torch.zeros(1, 2))
    away = large_motion_of(known.pair, known.pair, on, (shifted(500.0), IDENTITY))
    assert away.start is IDENTITY


@pytest.mark.parametrize(
    "changes",
    [{"large_motion": "off"}, {"metric": "nmi"}, {"kind": "affine"}, {"estimator": "both"}],
)
def test_it_is_not_considered(known: SlidingPair, changes: dict[str, str]) -> None:
    settings = dataclasses.replace(SETTINGS, **changes)
    found = large_motion_of(known.pair, known.pair, settings, (IDENTITY, shifted(1.0)))
    assert (found.runs, found.selection) == (False, None)
    part = Pair(known.pair.fixed, known.pair.moving)  # as masked by content
    assert large_motion_of(known.pair, part, SETTINGS, (IDENTITY, IDENTITY)).selection is None


def test_the_metric_of_the_linear_stages_says_whether_the_contrast_is_the_same(
    known: SlidingPair,
) -> None:
    """As of one person before and after contrast agent, whose edges are compared in the end."""
    edges = dataclasses.replace(SETTINGS, deformable_metric="gradient")
    assert large_motion_of(known.pair, known.pair, edges, (IDENTITY, IDENTITY)).runs


def test_too_little_memory_is_a_reason(known: SlidingPair) -> None:
    with memory_limit(0.01):
        found = large_motion_of(known.pair, known.pair, SETTINGS, (IDENTITY, IDENTITY))
    assert found.selection is not None
    assert found.selection.choice == "off"
    assert found.selection.reason.startswith("the discrete search needs")
    assert found.start is IDENTITY


def test_coarser_levels_than_the_search_are_omitted(known: SlidingPair) -> None:
    search, deformable = stages_with_search(SETTINGS, known.pair)
    spacings = deformable.levels(known.pair)
    finest = search.levels(known.pair)[-1].spacing_mm
    assert spacings[0].spacing_mm <= finest < 2 * spacings[0].spacing_mm
    assert spacings[-1].spacing_mm == known.pair.finest_mm
    assert [one.iterations for one in spacings] == [20, 8][-len(spacings) :]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "affine"}, "needs a deformable registration and the kind is affine"),
        ({"estimator": "network"}, "needs the optimiser and the estimator is network"),
    ],
)
def test_a_search_that_cannot_run_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings_from({"large_motion": "on", **options})
