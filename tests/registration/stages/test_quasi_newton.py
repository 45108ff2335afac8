"""The quasi-Newton steps against functions whose least is known, smooth or not."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from stn3d.registration.stages.quasi_newton import Vector, minimise

Function = Callable[[Vector], tuple[float, Vector]]


class Counted:
    """A function that remembers where it was asked."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.losses: list[float] = []

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        loss, gradient = self.function(x)
        self.losses.append(loss)
        return loss, gradient


def rosenbrock(x: Vector) -> tuple[float, Vector]:
    a, b = x
    gradient = np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)])
    return float((1 - a) ** 2 + 100 * (b - a * a) ** 2), gradient


def quadratic(n: int, condition: float, seed: int = 0) -> tuple[Function, Vector]:
    """A turned bowl whose axes' curvatures reach from 1 to the condition number, and its least."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(n, n)))[0]
    hessian = axes @ np.diag(np.geomspace(1, condition, n)) @ axes.T
    least = random.normal(size=n)

    def function(x: Vector) -> tuple[float, Vector]:
        gradient = hessian @ (x - least)
        return 0.5 * float((x - least) @ gradient), gradient

    return function, least


@pytest.mark.parametrize("start", [(-1.2, 1.0), (0.0, 0.0), (3.0, -4.0)])
def test_the_end_of_rosenbrocks_valley_is_found(start: tuple[float, float]) -> None:
    function = Counted(rosenbrock)
    found = minimise(function, np.array(start), 0.1, 200, 1e-14)
    assert np.allclose(found, 1, atol=1e-4)
    assert len(function.losses) < 90


@pytest.mark.parametrize("n", [1, 3, 12])
@pytest.mark.parametrize("first_step", [1e-3, 0.5, 100.0])
def test_the_least_of_a_bowl_is_found_whatever_the_first_step(n: int, first_step: float) -> None:
    bowl, least = quadratic(n, 100)
    function = Counted(bowl)
    found = minimise(function, np.zeros(n), first_step, 100, 1e-12)
    assert np.allclose(found, least, atol=1e-3)
    assert len(function.losses) < 5 * n + 15


def test_the_first_trial_has_the_length_asked_for_and_goes_downhill() -> None:
    bowl, _ = quadratic(4, 10)
    seen: list[Vector] = []

    def function(x: Vector) -> tuple[float, Vector]:
        seen.append(x)
        return bowl(x)

    start = np.ones(4)
    minimise(function, start, 0.25, 5, 1e-6)
    assert np.linalg.norm(seen[1] - start) == pytest.approx(0.25)
    assert (seen[1] - start) @ bowl(start)[1] < 0


@pytest.mark.parametrize("beyond", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("first_step", [0.5, 10.0])
def test_a_step_over_a_cliff_is_taken_back(beyond: float, first_step: float) -> None:
    bowl, least = quadratic(3, 10)
    wall = float(np.linalg.norm(least)) + 0.2

    def function(x: Vector) -> tuple[float, Vector]:
        return bowl(x) if np.linalg.norm(x) < wall else (beyond, np.full(3, beyond))

    assert np.allclose(minimise(function, np.zeros(3), first_step, 50, 1e-10), least, atol=1e-3)


@pytest.mark.parametrize("gradient", [math.nan, math.inf])
def test_a_point_without_a_gradient_is_not_taken(gradient: float) -> None:
    def function(x: Vector) -> tuple[float, Vector]:
        return float(x @ x), 2 * x if x[0] > -0.5 else np.full(2, gradient)

    found = minimise(function, np.array([2.0, 1.0]), 5.0, 50, 1e-10)
    assert np.allclose(found, 0, atol=1e-3)


def test_down_to_the_edge_of_a_loss_that_jumps() -> None:
    def function(x: Vector) -> tuple[float, Vector]:
        return float(x[0]) + (5.0 if x[0] < 0 else 0.0), np.ones(1)

    found = minimise(Counted(function), np.ones(1), 0.3, 50, 1e-6)
    assert 0 <= found[0] < 0.3


def test_a_turning_point_does_not_lead_far_off() -> None:
    seen: list[float] = []

    def well(x: Vector) -> tuple[float, Vector]:
        """Round about 0, flat far off; its curvature along x is 0 at a distance of 1."""
        seen.append(float(np.linalg.norm(x)))
        height = math.exp(-0.5 * float(x @ x))
        return 1 - height, height * x

    found = minimise(well, np.array([1.15, 0.0]), 0.1, 50, 1e-8)
    assert np.allclose(found, 0, atol=1e-3)
    assert max(seen) < 1.5


@pytest.mark.parametrize("slope", [0.0, math.nan, math.inf])
def test_no_step_where_the_start_shows_no_way(slope: float) -> None:
    function = Counted(lambda x: (1.0, np.full(3, slope)))
    start = np.arange(3.0)
    assert np.array_equal(minimise(function, start, 1.0, 50, 1e-6), start)
    assert len(function.losses) == 1


def test_a_flat_loss_with_a_slope_ends_soon_where_it_started() -> None:
    function = Counted(lambda x: (1.0, np.full(3, 0.1)))
    start = np.arange(3.0)
    assert np.array_equal(minimise(function, start, 1.0, 50, 1e-6), start)
    assert len(function.losses) <= 11


@pytest.mark.parametrize("seed", range(5))
def test_noise_ends_the_search_and_the_best_is_kept(seed: int) -> None:
    bowl, _ = quadratic(6, 100)
    random = np.random.default_rng(seed)

    def noisy(x: Vector) -> tuple[float, Vector]:
        loss, gradient = bowl(x)
        return 1 + loss + 1e-7 * random.normal(), gradient

    function = Counted(noisy)
    start = np.zeros(6)
    found = minimise(function, start, 0.1, 50, 1e-6)
    assert bowl(found)[0] < 1e-4 < bowl(start)[0]
    assert len(function.losses) < 50


def test_no_more_searches_than_allowed() -> None:
    function = Counted(rosenbrock)
    found = minimise(function, np.array([-1.2, 1.0]), 0.1, 3, 0.0)
    assert len(function.losses) <= 31
    assert rosenbrock(found)[0] == min(function.losses)
