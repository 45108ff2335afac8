"""Each guess is right on the case that it is made for; the best comes first."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from stn3d.choices import MetricName
from stn3d.grid import homogeneous
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.initialisation.candidates import (
    Candidate,
    InitialMethod,
    initial_candidates,
)
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS, rotation
from tests.helpers.synthetic import Known, grid_about, known_pair, linear_truth, plain_grid


def best(known: Known, method: InitialMethod = "auto") -> Candidate:
    return initial_candidates(known.pair, method)[0]


def zeros(ndim: int) -> torch.Tensor:
    return torch.zeros(ndim, dtype=torch.float64)


@pytest.mark.parametrize("ndim", DIMS)
def test_a_header_that_is_right_wins(ndim: int) -> None:
    off = torch.tensor([3.0, -2, 1]).double()[:ndim]
    moving = grid_about(zeros(ndim) + 4, [34] * ndim, [1.3] * ndim, (20, -10, 15), left_handed=True)
    known = known_pair(Affine.identity(ndim), plain_grid(ndim), moving, off)
    found = best(known)
    assert found.name == "header"
    assert known.error_mm(found.transform) < 0.15
    exact = initial_candidates(known.pair, "header")[0]
    assert known.error_mm(exact.transform) < 1e-6


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("method", ["centres", "mass"])
def test_a_pure_shift(ndim: int, method: InitialMethod) -> None:
    shift = torch.tensor([210.0, -90, 55]).double()[:ndim]
    truth = Affine.from_matrix(homogeneous(torch.eye(ndim).double(), shift))
    moving = grid_about(shift, [40] * ndim, [0.9] * ndim, (30, 20, -10))
    known = known_pair(truth, plain_grid(ndim, 40), moving)
    found = initial_candidates(known.pair, method)
    assert [c.name for c in found] == [method]
    # The fields of view agree exactly; centres of brightness up to the voxels of the coarse grid.
    assert known.error_mm(found[0].transform) < (1e-6 if method == "centres" else 0.3)
    assert best(known).overlap > 0.7
    assert known.error_mm(best(known).transform) < 0.5


@pytest.mark.parametrize("ndim", DIMS)
def test_mass_finds_what_stands_off_the_middle(ndim: int) -> None:
    off = torch.tensor([12.0, -9, 7]).double()[:ndim]
    truth = Affine.from_matrix(homogeneous(torch.eye(ndim).double(), off))
    known = known_pair(truth, plain_grid(ndim, 40), plain_grid(ndim, 60), off)
    assert known.error_mm(initial_candidates(known.pair, "mass")[0].transform) < 0.6
    assert known.error_mm(initial_candidates(known.pair, "centres")[0].transform) > 10


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("turn", [(0, 0, 90), (180, 0, 0), (90, 0, 90), (70, 40, -120)])
def test_moments_find_a_large_rotation(ndim: int, turn: tuple[float, ...]) -> None:
    turned = rotation(ndim, turn if ndim == 3 else (turn[0] + turn[2],))
    shift = torch.tensor([8.0, -5, 3]).double()[:ndim]
    truth = Affine.from_matrix(homogeneous(turned, shift))
    known = known_pair(truth, plain_grid(ndim, 40), plain_grid(ndim, 48), shift)
    found = initial_candidates(known.pair, "moments")
    assert known.error_mm(found[0].transform) < 1
    assert known.error_mm(best(known).transform) < 1
    assert len(found) == 2 ** (ndim - 1)


@pytest.mark.parametrize("ndim", DIMS)
def test_guesses_are_rotations_in_order_with_their_overlap(ndim: int) -> None:
    truth = linear_truth("rigid", zeros(ndim), zeros(ndim) + 4, 25)
    moving = grid_about(zeros(ndim) + 4, [40] * ndim, [1.1] * ndim, (20, 30, 40), left_handed=True)
    known = known_pair(truth, plain_grid(ndim), moving)
    found = initial_candidates(known.pair)
    assert len(found) == 3 + 2 ** (ndim - 1)
    losses = [c.loss for c in found]  # those within a percent of the best go by plainness
    assert all(a <= 1.01 * b for a, b in pairwise(losses))
    for one in found:
        assert isinstance(one.transform, Affine)
        linear = one.transform.linear_part()
        assert torch.allclose(linear @ linear.T, torch.eye(ndim).double(), atol=1e-9)
        assert float(torch.linalg.det(linear)) > 0
        assert 0 <= one.overlap <= 1


@pytest.mark.parametrize("metric", ["mse", "ncc", "lncc"])
def test_a_guess_of_little_overlap_comes_after_all_others(metric: MetricName) -> None:
    fixed, moving = plain_grid(2, 40), plain_grid(2, 40).cropped((33, 33), (73, 73))
    known = known_pair(Affine.identity(2), fixed, moving, torch.tensor([26.5, 26.5]).double())
    found = initial_candidates(known.pair, "auto", metric)
    header = next(c for c in found if c.name == "header")
    assert header.overlap < 0.05
    little = [c.overlap < 0.25 for c in found]
    assert little == sorted(little)
    assert 0 < sum(little) < len(found)
    # The rule decides here: among those of little overlap one has a lower loss than the first. (By
    # lncc none has, over the same voxels for every guess.)
    if metric != "lncc":
        worst = max(c.loss for c in found[: -sum(little)])
        assert min(c.loss for c in found[-sum(little) :]) < worst


def test_a_small_moving_image_is_not_blamed_for_its_size() -> None:
    known = known_pair(
        Affine.identity(3),
        plain_grid(3, 40),
        plain_grid(3, 40).cropped((8, 8, 15), (32, 32, 25)),
        torch.zeros(3).double(),
    )
    found = best(known)
    assert found.name == "header"
    assert found.overlap < 0.15
    assert known.error_mm(found.transform) < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_a_turned_over_guess_does_not_win_by_pushing_background_out(seed: int) -> None:
    shift = torch.tensor([6.0, -5, 4]).double()
    truth = linear_truth("affine", zeros(3), shift, 14)
    moving = grid_about(shift, [36] * 3, [1] * 3)
    off = shift + torch.tensor([2.0, -2, 1.5]).double()
    known = known_pair(truth, plain_grid(3), moving, off, seed)
    assert known.error_mm(best(known).transform) < 5  # a body turned over is off by 11 or more


def test_brightness_that_a_mask_leaves_out_does_not_draw_the_mass() -> None:
    shift = torch.tensor([5.0, -4]).double()
    truth = Affine.from_matrix(homogeneous(torch.eye(2).double(), shift))
    known = known_pair(truth, plain_grid(2, 40), plain_grid(2, 40), torch.zeros(2).double())
    pair = known.pair
    spoilt, mask = pair.moving.image.clone(), torch.ones_like(pair.moving.image)
    spoilt[..., :6, :8], mask[..., :6, :8] = 1.25, 0
    masked = Pair(pair.fixed, PreparedImage(spoilt, pair.moving.grid, mask))
    bare = Pair(pair.fixed, PreparedImage(spoilt, pair.moving.grid))
    assert known.error_mm(initial_candidates(masked, "mass")[0].transform) < 0.5
    assert known.error_mm(initial_candidates(bare, "mass")[0].transform) > 1
