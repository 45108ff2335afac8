"""What all stages have in common: axes, convergence, progress, repeatability."""

from __future__ import annotations

import itertools

import pytest
import torch

from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.initialisation.strategies import simple_candidates
from stn3d.registration.stages import (
    DeformableStage,
    LinearStage,
    Progress,
    ProgressEvent,
    Stage,
)
from stn3d.registration.stages.base import LevelProgress
from stn3d.transforms import Affine, Transform, Translation
from tests.helpers.geometry_cases import DIMS
from tests.helpers.stages import linear_pair, run
from tests.helpers.synthetic import (
    Known,
    known_pair,
    plain_grid,
    reoriented,
)


def turned_over(known: Known, ndim: int) -> Pair:
    """The same pair in the world, its arrays in another order and running backwards."""
    fixed, fixed_grid = reoriented(known.fixed, known.fixed_grid, (1, 0, 2)[:ndim], (0,))
    moving, moving_grid = reoriented(
        known.moving, known.moving_grid, (2, 0, 1) if ndim == 3 else (0, 1), (0, 1)
    )
    points = fixed_grid.points_mm()
    expected = known.anatomy(known.truth(points))[None, None]
    assert torch.allclose(fixed, expected, atol=1e-5)  # the turn is right in the world
    return Pair(
        PreparedImage(scaled(fixed), fixed_grid), PreparedImage(scaled(moving), moving_grid)
    )


@pytest.mark.parametrize("ndim", DIMS)
def test_the_order_and_direction_of_axes_change_nothing(ndim: int) -> None:
    known = linear_pair(ndim, "affine")
    start = simple_candidates(known.pair, "mass")[0].transform
    stages = (LinearStage("affine", "lncc", (4, 2)), DeformableStage("lncc", (4, 2), (30, 30)))
    points = known.fixed_grid.points_mm()[known.foreground]
    results = [run(pair, start, *stages)(points) for pair in (known.pair, turned_over(known, ndim))]
    assert float((results[0] - results[1]).norm(dim=-1).mean()) < 0.25


@pytest.mark.parametrize(
    "stage", [LinearStage("rigid"), DeformableStage(iterations=(40,) * 4)], ids=lambda s: s.name
)
def test_stages_stop_when_nothing_changes_any_more(stage: Stage) -> None:
    known = known_pair(Affine.identity(3), plain_grid(3, 32), plain_grid(3, 32))
    seen: list[ProgressEvent] = []
    stage(known.pair, Affine.identity(3), seen.append)
    spacings = [event.spacing_mm or 0.0 for event in seen]
    most = stage.iterations if isinstance(stage, LinearStage) else 40
    for _, level in itertools.groupby(seen, key=lambda event: event.spacing_mm):
        assert len(list(level)) < most
    assert spacings == sorted(spacings, reverse=True)


def test_progress_gets_stage_level_iteration_and_a_falling_loss() -> None:
    known = linear_pair(2, "rigid")
    start = simple_candidates(known.pair, "mass")[0].transform
    for stage in (LinearStage("rigid", factors=(2, 1)), DeformableStage("lncc", (2, 1), (9, 7))):
        seen: list[ProgressEvent] = []
        stage(known.pair, start, seen.append)
        levels = {s: list(e) for s, e in itertools.groupby(seen, key=lambda e: e.spacing_mm)}
        assert list(levels) == [2.0, 1.0]
        for number, events in enumerate(levels.values(), start=1):
            assert [event.iteration for event in events] == list(range(1, len(events) + 1))
            assert all(event.iterations >= event.iteration for event in events)
            assert {(event.step, event.level, event.levels) for event in events} == {
                (stage.name, number, 2)
            }
        losses = [event.loss or 0.0 for event in levels[2.0]]
        assert min(losses) < losses[0]
        fractions = [event.fraction for event in seen]
        assert fractions == sorted(fractions)
        assert fractions[0] > 0
        assert fractions[-1] <= 1


def test_a_level_takes_its_share_of_the_progress_by_its_work() -> None:
    known = linear_pair(2, "rigid")
    coarse, fine = DeformableStage("lncc", (2, 1), (9, 7)).levels(known.pair)
    assert (coarse.iterations, fine.iterations) == (9, 7)
    assert fine.voxels == known.fixed_grid.num_voxels
    seen: list[ProgressEvent] = []
    LevelProgress("deformable", [coarse, fine], seen.append).at(1)(0, 0.5)
    (event,) = seen
    expected = (coarse.work + fine.work / 7) / (coarse.work + fine.work)
    assert event.fraction == pytest.approx(expected)
    nmi = LinearStage("rigid", "nmi", factors=(4, 2, 1), restarts=4)
    assert [level.repeats for level in nmi.levels(known.pair)] == [1, 5, 1]


@pytest.mark.parametrize("ndim", DIMS)
def test_the_same_twice_is_the_same_to_the_last_bit(ndim: int) -> None:
    known = linear_pair(ndim, "affine")
    start = simple_candidates(known.pair, "mass")[0].transform
    stages = (LinearStage("affine", factors=(4, 2)), DeformableStage("lncc", (4, 2), (15, 15)))
    points = known.fixed_grid.points_mm()
    first, second = (run(known.pair, start, *stages)(points) for _ in range(2))
    assert torch.equal(first, second)


def test_one_slice_of_a_volume_moves_in_its_plane_alone() -> None:
    grid = Grid((36, 36, 1), torch.diag(torch.tensor([1.0, 1, 3, 1]).double()))
    shift = homogeneous(torch.eye(3).double(), torch.tensor([2.0, -1.5, 0]).double())
    known = known_pair(Affine.from_matrix(shift), grid, grid)
    stages = (LinearStage("rigid", "ncc", (2, 1)), DeformableStage("ncc", (2, 1), (10, 10)))
    found = run(known.pair, Affine.identity(3), *stages)
    assert known.error_mm(found) < 0.3
    index = apply_matrix(grid.index_from_world, found(grid.points_mm()))
    assert float(index[..., 2].abs().max()) < 0.5


class Worse(DeformableStage):
    """Of a wrong estimate, as a network may give it."""

    def estimate(self, pair: Pair, current: Transform, progress: Progress) -> Transform:
        return current.then(Translation(torch.tensor([9.0, 0]).double(), torch.zeros(2)))


def test_no_stage_ends_worse_than_it_began() -> None:
    known = linear_pair(2, "rigid")
    stage = Worse("lncc", (2, 1), (9, 7))
    assert run(known.pair, known.truth, stage) is known.truth
    far = known.truth.then(Translation(torch.tensor([-9.0, 0]).double(), torch.zeros(2)))
    found = run(known.pair, far, stage)  # and what is better is kept
    assert stage.loss(known.pair, found) < stage.loss(known.pair, far) - 0.1


@pytest.mark.parametrize(
    "stage",
    [
        LinearStage("rigid", "lncc", (8,)),
        LinearStage("affine", "ncc", (4, 2)),
        LinearStage("affine", "gradient", (4,)),
        DeformableStage("lncc", (4, 2), (9, 7)),
    ],
    ids=lambda s: f"{s.name}-{s.metric}",
)
def test_the_loss_of_a_stage_falls(stage: Stage) -> None:
    known = linear_pair(2, "rigid", 3)
    shift = Translation(torch.tensor([1.5, -1]).double(), torch.zeros(2))
    start = known.truth.then(shift)
    found = run(known.pair, start, stage)
    assert stage.loss(known.pair, found) < stage.loss(known.pair, start) - 1e-3
