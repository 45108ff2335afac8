"""The instance estimators find known transforms, on any grids, and stop when they have."""

from __future__ import annotations

import itertools

import pytest
import torch

from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.kernels import dispatch
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import MetricName
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.initialisation.candidates import initial_candidates
from stn3d.registration.stages import DeformableStage, LinearStage, ProgressEvent, Stage
from stn3d.registration.stages.base import LevelProgress
from stn3d.transforms import Affine, Chain, DisplacementField, LinearKind, Transform
from stn3d.warp import fov_overlap_fraction, jacobian_determinant
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import (
    Known,
    dense_truth,
    grid_about,
    known_pair,
    linear_truth,
    plain_grid,
    reoriented,
)

METRICS: tuple[MetricName, ...] = ("mse", "ncc", "lncc", "nmi", "mind", "gradient")
# Of voxels of 1 mm; measured at most 0.17, 0.024 and 0.38 (flat windows pull local correlation).
# Descriptors stay along the axes of the level's start while the image turns: measured 0.5.
BOUND_MM: dict[MetricName, float] = {
    "mse": 0.3,
    "ncc": 0.08,
    "lncc": 0.6,
    "nmi": 0.3,
    "mind": 0.7,
    "gradient": 0.6,
}


def silent(event: ProgressEvent) -> None:
    """No progress."""


def zeros(ndim: int) -> torch.Tensor:
    return torch.zeros(ndim, dtype=torch.float64)


def run(pair: Pair, start: Transform, *stages: Stage) -> Transform:
    for stage in stages:
        start = stage(pair, start, silent)
    return start


def linear_pair(ndim: int, kind: str, turn_deg: float = 12) -> Known:
    """Ten voxels apart, turned, and so on; in fields of view with room around the body."""
    shift = torch.tensor([7.0, -6, 4.5]).double()[:ndim]
    truth = linear_truth(kind, zeros(ndim), shift, turn_deg)
    return known_pair(truth, plain_grid(ndim, 40), plain_grid(ndim, 48), shift + 1)


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine"])
def test_a_linear_stage_recovers_its_kind(ndim: int, kind: LinearKind, metric: MetricName) -> None:
    known = linear_pair(ndim, kind)
    start = initial_candidates(known.pair, "mass")[0].transform
    assert known.error_mm(start) > 1
    found = run(known.pair, start, LinearStage(kind, metric, (4, 2, 1)))
    assert known.error_mm(found) < BOUND_MM[metric]
    assert isinstance(found, Affine)


def test_a_rigid_stage_after_a_rigid_start_stays_rigid() -> None:
    known = linear_pair(3, "rigid")
    start = initial_candidates(known.pair, "mass")[0].transform
    found = run(known.pair, start, LinearStage("rigid", "lncc", (4, 2)))
    assert isinstance(found, Affine)
    linear = found.linear_part()
    assert torch.allclose(linear @ linear.T, torch.eye(3).double(), atol=1e-9)


@pytest.mark.parametrize("ndim", DIMS)
def test_an_inverted_image_is_no_obstacle_for_local_correlation(ndim: int) -> None:
    known = linear_pair(ndim, "affine", 8)
    pair = Pair(PreparedImage(1 - known.pair.fixed.image, known.fixed_grid), known.pair.moving)
    start = initial_candidates(known.pair, "mass")[0].transform
    found = run(pair, start, LinearStage("affine", "lncc", (4, 2, 1)))
    assert known.error_mm(found) < 0.7


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("metric", ["nmi", "mind", "gradient"])
def test_a_contrast_that_neither_rises_nor_falls_is_no_obstacle(
    ndim: int, metric: MetricName
) -> None:
    known = linear_pair(ndim, "affine", 8)
    folded = (2 * known.pair.fixed.image - 1).abs()  # the darkest and the brightest are alike
    pair = Pair(PreparedImage(folded, known.fixed_grid), known.pair.moving)
    start = initial_candidates(known.pair, "mass")[0].transform
    found = run(pair, start, LinearStage("affine", metric, (4, 2, 1)))
    assert known.error_mm(found) < 0.7


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("offset_mm", [0.0, 1e4])
def test_oblique_anisotropic_grids_anywhere(ndim: int, offset_mm: float) -> None:
    far = zeros(ndim) + offset_mm
    shift = torch.tensor([7.0, -6, 4.5]).double()[:ndim]
    fixed = grid_about(far, [40] * ndim, [1, 1.4, 3][:ndim], (25, -15, 30), left_handed=True)
    moving = grid_about(far + shift, [46] * ndim, [1.3, 1, 1.1][:ndim], (-40, 25, 10))
    known = known_pair(linear_truth("affine", far, far + shift), fixed, moving)
    start = initial_candidates(known.pair, "mass")[0].transform
    found = run(known.pair, start, LinearStage("affine", "ncc", (4, 2, 1)))
    assert known.error_mm(found) < 0.1


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
    start = initial_candidates(known.pair, "mass")[0].transform
    stages = (LinearStage("affine", "lncc", (4, 2)), DeformableStage("lncc", (4, 2), (30, 30)))
    points = known.fixed_grid.points_mm()[known.foreground]
    results = [run(pair, start, *stages)(points) for pair in (known.pair, turned_over(known, ndim))]
    assert float((results[0] - results[1]).norm(dim=-1).mean()) < 0.25


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_dense_stage_recovers_a_smooth_diffeomorphism(ndim: int, metric: MetricName) -> None:
    grid = plain_grid(ndim, 40)
    known = known_pair(dense_truth(grid), grid, plain_grid(ndim, 40))
    identity = Affine.identity(ndim)
    before = known.error_mm(identity)
    found = run(known.pair, identity, DeformableStage(metric, (4, 2, 1), (100, 100, 60)))
    assert before > 0.7
    # A histogram of the whole tells least of each voxel: measured 0.36 with this little smoothing;
    # descriptors of blobs without edges 0.42.
    bounds_mm = {"nmi": 0.45, "mind": 0.5, "gradient": 0.7}
    assert known.error_mm(found) < bounds_mm.get(metric, 0.3)
    assert float(jacobian_determinant(found, grid).min()) > 0.2


@pytest.mark.parametrize("ndim", DIMS)
def test_a_dense_stage_on_oblique_anisotropic_grids(ndim: int) -> None:
    world = plain_grid(ndim, 40)
    fixed = grid_about(zeros(ndim), [40] * ndim, [1, 1.4, 3][:ndim], (25, -15, 30), True)
    moving = grid_about(zeros(ndim), [46] * ndim, [1.3, 1, 1.1][:ndim], (-40, 25, 10))
    known = known_pair(dense_truth(world), fixed, moving)
    found = run(
        known.pair, Affine.identity(ndim), DeformableStage("lncc", (4, 2, 1), (100, 100, 60))
    )
    assert known.error_mm(found) < 0.4
    assert float(jacobian_determinant(found, fixed).min()) > 0.1


def field_of(transform: Transform) -> DisplacementField:
    (field,) = (part for part in transform.parts if isinstance(part, DisplacementField))
    return field


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("margin_mm", [8.0, 2.5, 0.0])
def test_the_field_ends_in_zeros_and_can_be_inverted(ndim: int, margin_mm: float) -> None:
    grid = plain_grid(ndim, 28)
    shift = homogeneous(torch.eye(ndim).double(), zeros(ndim) + 1.5)
    known = known_pair(Affine.from_matrix(shift), grid, grid)
    stage = DeformableStage("lncc", (2, 1), (20, 10), margin_mm=margin_mm)
    field = field_of(run(known.pair, Affine.identity(ndim), stage))
    assert bool(torch.isfinite(field.displacement_mm).all())
    assert float(field.displacement_mm.abs().max()) > 0.5
    for axis in range(ndim):
        faces = field.displacement_mm[0].movedim(1 + axis, 0)[[0, -1]]
        assert float(faces.abs().max()) == 0
    points = grid.points_mm().float()
    there_and_back = field.inverse()(field(points))
    gap = (there_and_back - points).norm(dim=-1)
    assert float(gap.mean()) < 0.05
    if margin_mm > 0:  # without a margin points are pushed out of the field's grid
        assert float(gap.max()) < 0.2


def test_a_dense_stage_keeps_what_came_before() -> None:
    known = linear_pair(3, "affine")
    push = Affine.from_matrix(homogeneous(torch.eye(3).double(), torch.ones(3).double()))
    start = known.truth.then(push)
    found = run(known.pair, start, DeformableStage("lncc", (2,), (20,)))
    assert isinstance(found, Chain)
    assert isinstance(found.transforms[0], DisplacementField)
    outside = torch.full((1, 3), 500.0).double()
    assert torch.allclose(found(outside), start(outside))
    assert known.error_mm(found) < 0.5 * known.error_mm(start)


def test_a_dense_stage_does_not_spoil_what_is_right() -> None:
    known = linear_pair(3, "affine")
    found = run(known.pair, known.truth, DeformableStage("lncc", (2,), (20,)))
    assert known.error_mm(found) < 0.3


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
    start = initial_candidates(known.pair, "mass")[0].transform
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
    start = initial_candidates(known.pair, "mass")[0].transform
    stages = (LinearStage("affine", factors=(4, 2)), DeformableStage("lncc", (4, 2), (15, 15)))
    points = known.fixed_grid.points_mm()
    first, second = (run(known.pair, start, *stages)(points) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_a_slab_of_four_slices_in_a_whole_volume(kind: LinearKind) -> None:
    turn = linear_truth("rigid", zeros(2), torch.tensor([3.0, -2]).double(), 10).matrix
    matrix = torch.eye(4).double()
    matrix[:2, :2], matrix[:2, 3] = turn[:2, :2], turn[:2, 2]
    slab = grid_about(zeros(3), [36, 36, 12], [1, 1, 3])
    known = known_pair(Affine.from_matrix(matrix), slab, plain_grid(3, 40))
    found = run(known.pair, Affine.identity(3), LinearStage(kind, "lncc", (4, 2, 1)))
    assert known.error_mm(found) < 0.3


def test_one_slice_of_a_volume_moves_in_its_plane_alone() -> None:
    grid = Grid((36, 36, 1), torch.diag(torch.tensor([1.0, 1, 3, 1]).double()))
    shift = homogeneous(torch.eye(3).double(), torch.tensor([2.0, -1.5, 0]).double())
    known = known_pair(Affine.from_matrix(shift), grid, grid)
    stages = (LinearStage("rigid", "ncc", (2, 1)), DeformableStage("ncc", (2, 1), (10, 10)))
    found = run(known.pair, Affine.identity(3), *stages)
    assert known.error_mm(found) < 0.3
    index = apply_matrix(grid.index_from_world, found(grid.points_mm()))
    assert float(index[..., 2].abs().max()) < 0.5


@pytest.mark.parametrize("ndim", DIMS)
def test_without_the_loops_plain_torch_finds_the_same(
    ndim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = plain_grid(ndim, 32)
    known = known_pair(dense_truth(grid), grid, grid, zeros(ndim))
    start = Affine.identity(ndim)
    stage = DeformableStage(factors=(2, 1), iterations=(6, 4))
    by_loops = run(known.pair, start, stage)
    monkeypatch.setattr(dispatch, "fused", lambda *_: False)
    fresh = Pair(*(PreparedImage(s.image, s.grid) for s in (known.pair.fixed, known.pair.moving)))
    by_torch = run(fresh, start, stage)
    points = known.fixed_grid.points_mm()
    moves = (by_loops(points) - points).norm(dim=-1)
    apart = (by_loops(points) - by_torch(points)).norm(dim=-1)
    assert float(moves.max()) > 0.5
    assert float(apart.max()) < 0.01 * float(moves.max())


@pytest.mark.parametrize(("kind", "believed"), [("rigid", True), ("affine", False)])
def test_a_stage_that_may_scale_does_not_push_the_image_out_of_sight(
    kind: LinearKind, believed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = linear_pair(3, kind)
    grid = known.fixed_grid
    start = initial_candidates(known.pair, "mass")[0].transform

    def far(self: LinearStage, loss_of: object, steps: torch.Tensor, *_: object) -> torch.Tensor:
        away = steps.clone()
        away[-3:] += 0.5 * min(grid.size_mm)
        return away

    monkeypatch.setattr(LinearStage, "_minimised", far)
    found = run(known.pair, start, LinearStage(kind, "lncc", (2,)))
    shares = [fov_overlap_fraction(known.pair.moving.grid, t, grid) for t in (start, found)]
    assert (shares[1] < 0.5 * shares[0]) == believed
    assert (shares[1] == shares[0]) != believed


# -- looks and reach ------------------------------------------------------------------------------


def loss_at(pair: Pair, found: Transform, spacing_mm: float, metric: MetricName) -> float:
    """Of a linear transform on a level."""
    fixed, moving = pair.fixed.at(spacing_mm), pair.moving.at(spacing_mm)
    assert isinstance(found, Affine)
    matrix = moving.grid.index_from_world @ found.matrix @ fixed.grid.world_from_index
    return float(ImageLoss(fixed, moving, metric, 2.0)(matrix))


@pytest.mark.parametrize("ndim", DIMS)
def test_looks_from_aside_never_lose_and_sometimes_win(ndim: int) -> None:
    """A histogram's loss of noisy images has hollows; the spacing is that of the only level."""
    known = linear_pair(ndim, "rigid", 20)
    pair = known.pair
    generator = torch.Generator().manual_seed(3)
    noise = [
        0.15 * torch.randn(s.image.shape, generator=generator) for s in (pair.fixed, pair.moving)
    ]
    noisy = Pair(
        PreparedImage(pair.fixed.image + noise[0], known.fixed_grid),
        PreparedImage(pair.moving.image + noise[1], known.moving_grid),
    )
    won = []
    for k in range(4):
        aside = linear_truth("rigid", zeros(ndim), zeros(ndim) + 0.5 * k, 5.0 * k)
        start = aside.then(known.truth)
        losses = [
            loss_at(
                noisy, run(noisy, start, LinearStage("rigid", "nmi", (3,), restarts=n)), 3, "nmi"
            )
            for n in (0, 2, 6)
        ]
        assert losses[2] <= losses[1] + 1e-9 <= losses[0] + 2e-9
        won.append(losses[2] < losses[0] - 1e-6)
    if ndim == 3:  # in the plane the steps from here find the best by themselves
        assert any(won)


def test_looks_are_not_told_and_change_no_number_of_levels() -> None:
    known = linear_pair(2, "rigid")
    seen: dict[int, list[ProgressEvent]] = {0: [], 4: []}
    for looks, events in seen.items():
        stage = LinearStage("rigid", "nmi", (4, 2), restarts=looks)
        stage(known.pair, known.truth, events.append)
    first = [
        [(e.iteration, e.loss) for e in events if e.spacing_mm == 4] for events in seen.values()
    ]
    assert first[0] == first[1]  # the looks come after the level's own steps
    assert [{e.spacing_mm for e in events} for events in seen.values()] == [{4.0, 2.0}] * 2


@pytest.mark.parametrize(
    ("finest_mm", "factors", "finest_spacing_mm", "levels"),
    [
        (1.0, (8, 4), float("inf"), [8, 4]),
        (1.0, (8, 4), 2.0, [8, 4, 2]),
        (1.0, (8, 4), 1.0, [8, 4, 2, 1]),
        (1.0, (8, 4), 0.1, [8, 4, 2, 1]),  # as far as the images go
        (1.0, (8, 4, 2, 1), 2.0, [8, 4, 2, 1]),
        (1.5, (8, 4), 2.0, [12, 6, 3, 1.5]),
        (4.0, (2, 1), 2.0, [8, 4]),
        (3.0, (4, 2), 2.0, [12, 6, 3]),
    ],
)
def test_finer_levels_follow_within_reach(
    finest_mm: float, factors: tuple[float, ...], finest_spacing_mm: float, levels: list[float]
) -> None:
    grid = Grid.of_spacing((120, 110), finest_mm)
    image = torch.zeros(1, 1, *grid.shape)
    pair = Pair(PreparedImage(image, grid), PreparedImage(image, grid))
    stage = LinearStage("rigid", factors=factors, finest_spacing_mm=finest_spacing_mm)
    assert stage.spacings_mm(pair) == pytest.approx(levels)


def test_levels_within_reach_are_worked_on_and_help() -> None:
    known = linear_pair(3, "rigid")
    start = initial_candidates(known.pair, "mass")[0].transform
    coarse, fine = (
        run(known.pair, start, LinearStage("rigid", "ncc", (8,), finest_spacing_mm=reach))
        for reach in (float("inf"), 1.0)
    )
    assert known.error_mm(fine) < min(0.05, known.error_mm(coarse))
