"""Candidates are scored once, refined, and put in order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stn3d.grid import homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.initialisation.candidates import CoarsePair, InitialTransform, coarse_mm
from stn3d.registration.initialisation.geometry import rotation_rad_of
from stn3d.registration.initialisation.strategies import simple_candidates
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import Known, known_pair, linear_truth, plain_grid


def near_pair(ndim: int, voxels: int = 40) -> Known:
    shift = torch.tensor([4.0, -3, 2]).double()[:ndim]
    truth = linear_truth("rigid", torch.zeros(ndim).double(), shift, 8)
    return known_pair(truth, plain_grid(ndim, voxels), plain_grid(ndim, voxels + 6), shift)


def shifted(known: Known, *by_mm: float) -> Affine:
    """The truth followed by a translation."""
    ndim = known.pair.fixed.grid.ndim
    offset = torch.zeros(ndim).double()
    offset[: len(by_mm)] = torch.tensor(by_mm).double()
    matrix = homogeneous(torch.eye(ndim).double(), offset) @ known.truth.matrix  # type: ignore[attr-defined]
    return Affine.from_matrix(matrix)


@pytest.mark.parametrize(("voxels", "spacing"), [(20, 1), (40, 1), (47, 1), (48, 2), (100, 4)])
def test_the_coarse_grid_has_24_to_48_voxels_or_all(voxels: int, spacing: float) -> None:
    pair = near_pair(2, voxels).pair
    assert coarse_mm(pair) == spacing * pair.finest_mm


@pytest.mark.parametrize("ndim", DIMS)
def test_the_loss_is_lowest_at_the_truth(ndim: int) -> None:
    known = near_pair(ndim)
    coarse = CoarsePair.of(known.pair, "lncc", "rigid")
    losses = [coarse.loss(shifted(known, off)) for off in (0, 1, 2, 4)]
    assert losses == sorted(losses)
    assert losses[0] < 0.1


@pytest.mark.parametrize("ndim", DIMS)
def test_images_swap_roles_if_the_moving_one_is_much_smaller(ndim: int) -> None:
    known = near_pair(ndim)
    small = known.pair.moving.grid.cropped([16] * ndim, [32] * ndim)
    pair = known_pair(known.truth, known.pair.fixed.grid, small, torch.zeros(ndim).double()).pair
    coarse, other = (CoarsePair.of(p, "lncc", "rigid") for p in (pair, pair.swapped))
    assert (coarse.swapped, other.swapped) == (True, False)
    truth = shifted(known, 0.0)
    inverse = truth.inverse()
    assert isinstance(inverse, Affine)
    assert coarse.loss(truth) == pytest.approx(other.loss(inverse), abs=1e-6)
    assert coarse.overlap(truth) < 0.3 < other.overlap(inverse)


@pytest.mark.parametrize("ndim", DIMS)
def test_refinement_keeps_the_proposed_transform(ndim: int) -> None:
    known = near_pair(ndim)
    coarse = CoarsePair.of(known.pair, "lncc", "rigid")
    start = shifted(known, 2.0, -1.0)
    candidate = coarse.scored("centres", start)
    refined = coarse.refined(candidate)
    assert candidate.unrefined is None
    assert candidate.proposed is start
    assert refined.unrefined is start
    assert refined.proposed is start
    assert refined.loss < candidate.loss
    assert known.error_mm(refined.transform) < 0.3 * known.error_mm(start)


def test_a_convincing_candidate_ends_the_refinement() -> None:
    known = near_pair(3)
    coarse = CoarsePair.of(known.pair, "lncc", "rigid")
    starts = [coarse.scored(str(off), shifted(known, off)) for off in (3.0, 2.0, 1.0)]
    found = coarse.selected(starts, 3)
    assert [one.unrefined is not None for one in found] == [True, False, False]
    assert found[0].name == "1.0"
    assert coarse.is_convincing(found[0])
    by_nmi = replace(coarse, metric="nmi")  # no loss of nmi is convincing
    found = by_nmi.selected([by_nmi.scored(c.name, c.linear) for c in starts], 3)
    assert [one.unrefined is not None for one in found] == [True, True, True]
    assert not by_nmi.is_convincing(found[0])


def test_equal_losses_keep_the_order_given() -> None:
    known = near_pair(2)
    coarse = CoarsePair.of(known.pair, "lncc", "rigid")
    a, b, c = (
        InitialTransform(name, known.truth, loss, 1.0)
        for name, loss in (("a", 0.5), ("b", 0.498), ("c", 0.49))
    )
    assert [one.name for one in coarse.selected([a, b, c], 0)] == ["c", "b", "a"]
    assert [one.name for one in coarse.selected([a, b], 0)] == ["a", "b"]
    assert [one.name for one in coarse.ranked([a, b])] == ["b", "a"]


def test_half_the_resolution_only_where_it_still_shows_the_images() -> None:
    fine = CoarsePair.of(near_pair(3, 40).pair, "lncc", "rigid")
    assert fine.half is not fine
    assert fine.half.pair.fixed.grid.shape == (20, 20, 20)
    few = CoarsePair.of(near_pair(3, 30).pair, "lncc", "rigid")
    assert few.half is few


@pytest.mark.parametrize("ndim", DIMS)
def test_the_best_apart_are_the_best_of_all_that_overlap(ndim: int) -> None:
    known = near_pair(ndim)
    coarse = CoarsePair.of(known.pair, "mse", "rigid")
    offsets = [45.0, 0.0, 1.0, 2.0, 6.0, 12.0]
    transforms = [shifted(known, off) for off in offsets]

    def apart(i: int, j: int) -> bool:
        return abs(offsets[i] - offsets[j]) > 3

    found = coarse.best_apart("search", transforms, 10, apart)
    kept = [offset_of(known, one.transform) for one in found]
    assert kept == pytest.approx([0, 6, 12, 45], abs=1e-6)
    assert [one.fov_overlap_fraction < 0.25 for one in found] == [False, False, False, True]
    first = coarse.best_apart("search", transforms, 2, apart)
    assert [one.transform for one in first] == [one.transform for one in found[:2]]


def offset_of(known: Known, transform: Affine | object) -> float:
    """How far a transform's translation along the first axis is from the truth's."""
    matrix: Tensor = transform.matrix  # type: ignore[union-attr]
    return float(matrix[0, -1] - known.truth.matrix[0, -1])  # type: ignore[attr-defined]


def a_box(ndim: int, turn_deg: float, shape: str = "box") -> tuple[Pair, Affine]:
    """A symmetric object, moved by a known transform."""
    shift = torch.tensor([5.0, -3, 2]).double()[:ndim]
    truth = linear_truth("rigid", torch.zeros(ndim).double(), shift, turn_deg)
    grid = plain_grid(ndim, 64, 2.0)
    half_mm = torch.tensor([22.0, 14, 9]).double()[:ndim]

    def values(points: Tensor) -> Tensor:
        if shape == "ellipsoid":
            along = torch.tensor([22.0, 12, 12]).double()[:ndim]
            return torch.sigmoid(10 - 10 * (points / along).norm(dim=-1)).float()[None, None]
        return torch.sigmoid(half_mm - points.abs()).prod(dim=-1).float()[None, None]

    points = grid.points_mm()
    fixed, moving = values(truth.inverse()(truth(points))), values(truth.inverse()(points))
    return Pair(PreparedImage(fixed, grid), PreparedImage(moving, grid)), truth


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("shape", ["box", "ellipsoid"])
@pytest.mark.parametrize("turn_deg", [8, -20])
def test_a_symmetric_object_is_rotated_as_little_as_possible(
    ndim: int, shape: str, turn_deg: float
) -> None:
    pair, truth = a_box(ndim, turn_deg, shape)
    found = simple_candidates(pair, "auto", "lncc", "rigid")[0].linear
    # An ellipsoid with two equal axes may be rotated about the third; the least rotation is none.
    assert rotation_rad_of(found) < rotation_rad_of(truth) + 0.05
    axis = torch.eye(ndim).double()[0] * 22
    gap = (found(axis) - found(0 * axis)) - (truth(axis) - truth(0 * axis))
    assert float(gap.norm()) < 2.0


def test_moments_alone_choose_the_least_rotation_too() -> None:
    pair, truth = a_box(3, 10)
    found = simple_candidates(pair, "moments", "lncc", "rigid")[0].linear
    assert rotation_rad_of(found) == pytest.approx(rotation_rad_of(truth), abs=0.05)
