"""The search's rotations cover all rotations evenly; its translations stay within their range."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from stn3d.registration.initialisation.search import rotations, translations_mm
from tests.helpers.geometry_cases import DIMS


def turns(ndim: int, count: int) -> Tensor:
    """``(count, d, d)``."""
    return torch.stack(list(rotations(ndim, count)))


def angles_deg(a: Tensor, b: Tensor) -> Tensor:
    """Between all rotations of two sets, ``(len(a), len(b))``."""
    trace = torch.einsum("nij,mij->nm", a, b)
    d = a.shape[-1]
    return torch.rad2deg(torch.acos(((trace - (d - 2)) / 2).clamp(-1, 1)))


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("count", [1, 7, 120])
def test_each_is_a_rotation(ndim: int, count: int) -> None:
    found = turns(ndim, count)
    assert found.shape == (count, ndim, ndim)
    assert found.dtype == torch.float64
    identity = torch.eye(ndim, dtype=torch.float64).expand_as(found)
    torch.testing.assert_close(found @ found.mT, identity, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(count).double())


@pytest.mark.parametrize("ndim", DIMS)
def test_the_same_twice(ndim: int) -> None:
    assert torch.equal(turns(ndim, 50), turns(ndim, 50))


def test_in_the_plane_they_are_equal_angles() -> None:
    found = turns(2, 36)
    angles = torch.rad2deg(torch.atan2(found[:, 1, 0], found[:, 0, 0])) % 360
    torch.testing.assert_close(angles, torch.arange(36).double() * 10, rtol=0, atol=1e-9)


@pytest.mark.parametrize("count", [120, 480])
def test_no_rotation_is_far_from_all_of_them(count: int) -> None:
    """The covering radius, over random rotations from scipy, compared with the radius of a ball
    that holds an equal fraction of all rotations; balls overlap, so no set reaches that."""
    anywhere = torch.from_numpy(Rotation.random(4000, random_state=1).as_matrix())
    nearest = angles_deg(anywhere, turns(3, count)).amin(dim=1)
    even = math.degrees(radius_of_fraction(1 / count))
    assert float(nearest.max()) < 1.6 * even
    assert float(nearest.mean()) < 0.85 * even
    by_chance = torch.from_numpy(Rotation.random(count, random_state=2).as_matrix())
    assert float(nearest.max()) < 0.8 * float(angles_deg(anywhere, by_chance).amin(dim=1).max())


def test_no_two_are_close() -> None:
    apart = angles_deg(turns(3, 480), turns(3, 480)).fill_diagonal_(180)
    assert float(apart.min()) > math.degrees(radius_of_fraction(1 / 480))


def radius_of_fraction(fraction: float) -> float:
    """The angle within which this fraction of all rotations lies: (angle - sin angle) / pi."""
    low, high = 0.0, math.pi
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if (middle - math.sin(middle)) / math.pi < fraction else (low, middle)
        )
    return low


@pytest.mark.parametrize(
    ("slack", "step", "most", "counts"),
    [
        ((10.0, 0.0, 4.9), 5.0, 400, (5, 1, 1)),
        ((3.0, 3.0), 5.0, 400, (1, 1)),
        ((100.0, 100.0, 100.0), 5.0, 400, None),
    ],
)
def test_translations_lie_on_a_grid_around_zero(
    slack: tuple[float, ...], step: float, most: int, counts: tuple[int, ...] | None
) -> None:
    found = torch.stack(translations_mm(slack, step, most))
    assert found.shape[1] == len(slack)
    assert len(found) <= most
    assert bool((found == 0).all(dim=1).any())
    assert bool((found.abs() <= torch.tensor(slack).double()).all())
    if counts is not None:
        assert tuple(len(set(axis.tolist())) for axis in found.T) == counts
    else:  # a larger step, no smaller range
        assert len(found) > most / 4
