"""Each simple strategy is right on the case that it is made for; the best candidate is first."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import pytest
import torch
from torch import Tensor

from stn3d.choices import InitialMethod, MetricName
from stn3d.grid import homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.initialisation.candidates import (
    CoarsePair,
    InitialTransform,
)
from stn3d.registration.initialisation.strategies import (
    Given,
    NetworkEstimate,
    exhaustive_search,
    refined_candidates,
    simple_candidates,
)
from stn3d.transforms import Affine, Linear
from tests.helpers.geometry_cases import DIMS, rotation
from tests.helpers.synthetic import Known, grid_about, known_pair, linear_truth, plain_grid


def best(known: Known, method: InitialMethod = "auto") -> InitialTransform:
    return simple_candidates(known.pair, method)[0]


def zeros(ndim: int) -> torch.Tensor:
    return torch.zeros(ndim, dtype=torch.float64)


@pytest.mark.parametrize("ndim", DIMS)
def test_a_correct_header_wins(ndim: int) -> None:
    off = torch.tensor([3.0, -2, 1]).double()[:ndim]
    moving = grid_about(zeros(ndim) + 4, [34] * ndim, [1.3] * ndim, (20, -10, 15), left_handed=True)
    known = known_pair(Affine.identity(ndim), plain_grid(ndim), moving, off)
    found = best(known)
    assert found.name == "header"
    assert known.error_mm(found.transform) < 0.15
    exact = simple_candidates(known.pair, "header")[0]
    assert known.error_mm(exact.transform) < 1e-6


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("method", ["centres", "mass"])
def test_a_pure_shift(ndim: int, method: InitialMethod) -> None:
    shift = torch.tensor([210.0, -90, 55]).double()[:ndim]
    truth = Affine.from_matrix(homogeneous(torch.eye(ndim).double(), shift))
    moving = grid_about(shift, [40] * ndim, [0.9] * ndim, (30, 20, -10))
    known = known_pair(truth, plain_grid(ndim, 40), moving)
    found = simple_candidates(known.pair, method)
    assert [c.name for c in found] == [{"mass": "centre_of_mass"}.get(method, method)]
    # The fields of view agree exactly; centres of mass up to the voxels of the coarse grid.
    assert known.error_mm(found[0].transform) < (1e-6 if method == "centres" else 0.3)
    assert best(known).fov_overlap_fraction > 0.7
    assert known.error_mm(best(known).transform) < 0.5


@pytest.mark.parametrize("ndim", DIMS)
def test_mass_finds_an_object_away_from_the_centre(ndim: int) -> None:
    off = torch.tensor([12.0, -9, 7]).double()[:ndim]
    truth = Affine.from_matrix(homogeneous(torch.eye(ndim).double(), off))
    known = known_pair(truth, plain_grid(ndim, 40), plain_grid(ndim, 60), off)
    assert known.error_mm(simple_candidates(known.pair, "mass")[0].transform) < 0.6
    assert known.error_mm(simple_candidates(known.pair, "centres")[0].transform) > 10


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("turn", [(0, 0, 90), (180, 0, 0), (90, 0, 90), (70, 40, -120)])
def test_moments_find_a_large_rotation(ndim: int, turn: tuple[float, ...]) -> None:
    turned = rotation(ndim, turn if ndim == 3 else (turn[0] + turn[2],))
    shift = torch.tensor([8.0, -5, 3]).double()[:ndim]
    truth = Affine.from_matrix(homogeneous(turned, shift))
    known = known_pair(truth, plain_grid(ndim, 40), plain_grid(ndim, 48), shift)
    found = simple_candidates(known.pair, "moments")
    assert known.error_mm(found[0].transform) < 1
    assert known.error_mm(best(known).transform) < 1
    assert len(found) == 2 ** (ndim - 1)


@pytest.mark.parametrize("ndim", DIMS)
def test_candidates_are_rotations_in_order_with_their_overlap(ndim: int) -> None:
    truth = linear_truth("rigid", zeros(ndim), zeros(ndim) + 4, 25)
    moving = grid_about(zeros(ndim) + 4, [40] * ndim, [1.1] * ndim, (20, 30, 40), left_handed=True)
    known = known_pair(truth, plain_grid(ndim), moving)
    found = simple_candidates(known.pair)
    assert len(found) == 3 + 2 ** (ndim - 1)
    losses = [c.loss for c in found]  # within 1 % of the lowest, simple ones come first
    assert all(a <= 1.01 * b for a, b in pairwise(losses))
    for one in found:
        assert isinstance(one.transform, Affine)
        linear = one.transform.linear_part()
        assert torch.allclose(linear @ linear.T, torch.eye(ndim).double(), atol=1e-9)
        assert float(torch.linalg.det(linear)) > 0
        assert 0 <= one.fov_overlap_fraction <= 1


@pytest.mark.parametrize("metric", ["mse", "ncc", "lncc"])
def test_a_candidate_with_little_overlap_comes_after_all_others(metric: MetricName) -> None:
    fixed, moving = plain_grid(2, 40), plain_grid(2, 40).cropped((33, 33), (73, 73))
    known = known_pair(Affine.identity(2), fixed, moving, torch.tensor([26.5, 26.5]).double())
    found = simple_candidates(known.pair, "auto", metric)
    header = next(c for c in found if c.name == "header")
    assert header.fov_overlap_fraction < 0.05
    little = [c.fov_overlap_fraction < 0.25 for c in found]
    assert little == sorted(little)
    assert 0 < sum(little) < len(found)
    # The rule decides here: among those with little overlap one has a lower loss than the first.
    # (With lncc none has, over the same voxels for every candidate.)
    if metric != "lncc":
        worst = max(c.loss for c in found[: -sum(little)])
        assert min(c.loss for c in found[-sum(little) :]) < worst


def test_a_small_moving_image_may_overlap_little() -> None:
    known = known_pair(
        Affine.identity(3),
        plain_grid(3, 40),
        plain_grid(3, 40).cropped((8, 8, 15), (32, 32, 25)),
        torch.zeros(3).double(),
    )
    found = best(known)
    assert found.name == "header"
    assert found.fov_overlap_fraction < 0.15
    assert known.error_mm(found.transform) < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_candidate_does_not_win_by_moving_background_out(seed: int) -> None:
    shift = torch.tensor([6.0, -5, 4]).double()
    truth = linear_truth("affine", zeros(3), shift, 14)
    moving = grid_about(shift, [36] * 3, [1] * 3)
    off = shift + torch.tensor([2.0, -2, 1.5]).double()
    known = known_pair(truth, plain_grid(3), moving, off, seed)
    assert known.error_mm(best(known).transform) < 5  # a flipped body is off by 11 or more


def test_intensity_outside_the_mask_does_not_move_the_centre_of_mass() -> None:
    shift = torch.tensor([5.0, -4]).double()
    truth = Affine.from_matrix(homogeneous(torch.eye(2).double(), shift))
    known = known_pair(truth, plain_grid(2, 40), plain_grid(2, 40), torch.zeros(2).double())
    pair = known.pair
    spoilt, mask = pair.moving.image.clone(), torch.ones_like(pair.moving.image)
    spoilt[..., :6, :8], mask[..., :6, :8] = 1.25, 0
    masked = Pair(pair.fixed, PreparedImage(spoilt, pair.moving.grid, mask))
    bare = Pair(pair.fixed, PreparedImage(spoilt, pair.moving.grid))
    assert known.error_mm(simple_candidates(masked, "mass")[0].transform) < 0.5
    assert known.error_mm(simple_candidates(bare, "mass")[0].transform) > 1


# -- the search -----------------------------------------------------------------------------------

# 75 to 90 degrees about two axes.
TURNS_DEG = {2: [(155.0,), (-165.0,)], 3: [(75.0, -90.0, 0.0), (90.0, 0.0, -80.0)]}


def turned_pair(ndim: int, turn_deg: tuple[float, ...]) -> Known:
    """One anatomy seen from another side, away from the centre, on coarse grids."""
    shift = torch.tensor([4.0, -3, 2]).double()[:ndim]
    truth = Affine.from_matrix(homogeneous(rotation(ndim, turn_deg), shift))
    return known_pair(truth, plain_grid(ndim, 36, 1.5), plain_grid(ndim, 42, 1.5), shift)


def angle_deg(a: Tensor, b: Tensor) -> float:
    turn = a @ b.T
    cosine = (turn.trace() - (len(turn) - 2)) / 2
    return float(torch.rad2deg(torch.acos(cosine.clamp(-1, 1))))


@pytest.mark.parametrize("ndim", DIMS)
def test_the_search_keeps_the_best_rotations_in_all_directions(ndim: int) -> None:
    coarse = CoarsePair.of(turned_pair(ndim, TURNS_DEG[ndim][0]).pair, "lncc", "rigid")
    every = exhaustive_search(coarse, keep=4)
    assert {one.name for one in every} == {"search"}
    found = every[:4]  # then translations of one field of view within the other
    assert [one.name for one in found] == ["search"] * 4
    turns = [one.transform.linear_part() for one in found]  # type: ignore[attr-defined]
    for turn in turns:
        torch.testing.assert_close(turn @ turn.T, torch.eye(ndim).double())
    assert all(angle_deg(a, b) > 30 for a, b in combinations(turns, 2))
    losses = [one.loss for one in found]
    assert losses == sorted(losses)
    again = exhaustive_search(coarse, keep=4)[:4]
    assert [one.loss for one in again] == losses


def test_the_search_finds_a_slab_along_the_axis_of_its_slices() -> None:
    """The smaller field of view moves within the larger one, in either role."""
    whole = plain_grid(3, 40)
    slab = whole.cropped((0, 0, 26), (40, 40, 36))
    moved = replace(
        slab, world_from_index=plain_grid(3, 40).cropped((0, 0, 4), (40, 40, 14)).world_from_index
    )
    shift = slab.centre_mm - moved.centre_mm
    known = known_pair(Affine.identity(3), whole, slab, torch.zeros(3).double())
    moving = replace(known.pair.moving, grid=moved)
    for pair, sign in ((Pair(known.pair.fixed, moving), -1), (Pair(moving, known.pair.fixed), 1)):
        found = exhaustive_search(CoarsePair.of(pair, "lncc", "rigid"))
        best = min(found, key=lambda one: one.loss)
        offset = best.transform(pair.fixed.grid.centre_mm) - pair.fixed.grid.centre_mm
        assert float((offset - sign * shift).norm()) < 3


# -- transforms from elsewhere --------------------------------------------------------------------


def test_known_transforms_are_refined_and_ordered() -> None:
    known = turned_pair(3, TURNS_DEG[3][0])
    aside = Affine.from_matrix(homogeneous(torch.eye(3).double(), torch.full((3,), 1.0).double()))
    near = known.truth.then(aside)
    assert isinstance(near, Linear)
    transforms = [("far", Affine.identity(3)), ("near", near)]
    found = refined_candidates(known.pair, transforms, "lncc", "rigid")
    assert [one.name for one in found] == ["near", "far"]
    assert found[0].unrefined is not None
    assert known.error_mm(found[0].transform) < 0.3 < known.error_mm(found[0].unrefined)


def test_a_given_transform_has_an_overlap_and_no_loss() -> None:
    known = turned_pair(2, TURNS_DEG[2][0])
    coarse = CoarsePair.of(known.pair, "lncc", "rigid")
    (given,) = Given(known.pair, known.truth)(coarse)
    assert given.name == "given"
    assert given.transform is known.truth
    assert given.as_dict() == {
        "name": "given",
        "loss": None,
        "fov_overlap_fraction": given.fov_overlap_fraction,
    }
    assert given.fov_overlap_fraction > 0.7


def test_a_network_that_is_not_enabled_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object) -> None:
        raise AssertionError("the network was loaded")

    known = turned_pair(2, TURNS_DEG[2][0])
    monkeypatch.setattr(NetworkEstimate, "_trained", property(loaded))
    disabled = NetworkEstimate(known.pair, "rigid", enabled=False)
    assert disabled.transform is None
    assert disabled(CoarsePair.of(known.pair, "lncc", "rigid")) == []
    with pytest.raises(AssertionError, match="loaded"):
        _ = NetworkEstimate(known.pair, "rigid").transform
