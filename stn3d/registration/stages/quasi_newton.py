"""Minimisation of a smooth function of a few variables by quasi-Newton steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Objective = Callable[[Vector], tuple[float, Vector]]
_DECREASE, _CURVATURE = 1e-4, 0.9  # constants of the Wolfe conditions
_TRIALS = 10  # of a line search


class _Point(NamedTuple):
    """A point at ``step`` along a line, and the slope of the loss along the line."""

    x: Vector
    loss: float
    gradient: Vector
    step: float = 0.0
    slope: float = 0.0


def minimise(
    objective: Objective, start: Vector, first_step: float, iterations: int, tolerance: float
) -> Vector:
    """The minimum of a loss by BFGS (Nocedal and Wright 2006, algorithm 6.1).

    Args:
        objective: The loss and its gradient at a point; may be infinite or NaN far from the start.
        start: Initial point, ``(n,)``.
        first_step: Length of the first trial step.
        iterations: Maximum number of line searches.
        tolerance: Relative convergence tolerance: the search ends when an iteration lowers the loss
            by no more than this fraction of the loss, or of the predicted gain of the first step.

    Returns:
        ``(n,)``; its loss is never above that of the start.
    """
    here, eye = _Point(start, *objective(start)), np.eye(len(start))
    promised, longest = first_step * float(np.linalg.norm(here.gradient)), first_step
    if not (math.isfinite(here.loss) and 0 < promised < math.inf):
        return start
    inverse = eye * first_step**2 / promised
    for iteration in range(iterations):
        least, direction = tolerance * max(abs(here.loss), promised), -inverse @ here.gradient
        # Where the loss is not convex, a curvature near 0 would give a very long step.
        direction /= max(1.0, float(np.linalg.norm(direction)) / (4 * longest))
        there = _line_search(objective, here, direction, least)
        gain, s, y = here.loss - there.loss, there.x - here.x, there.gradient - here.gradient
        here, curvature, longest = there, float(s @ y), max(longest, float(np.linalg.norm(s)))
        if gain <= least:
            break
        if curvature > 1e-12 * float(np.linalg.norm(s) * np.linalg.norm(y)):
            inverse = inverse if iteration else eye * curvature / float(y @ y)
            update = eye - np.outer(s, y) / curvature
            inverse = update @ inverse @ update.T + np.outer(s, s) / curvature
    return here.x


def _line_search(objective: Objective, start: _Point, direction: Vector, least: float) -> _Point:
    """A point that meets the strong Wolfe conditions (algorithms 3.5 and 3.6), or the best point
    after `_TRIALS` trials or when the predicted gain is ``least`` at most."""
    slope = float(start.gradient @ direction)
    low, high, step = _Point(*start[:3], slope=slope), None, 1.0
    for _ in range(_TRIALS):
        if -0.5 * slope * step <= least:  # the gain if the minimum of a parabola is at this step
            break
        x = start.x + step * direction
        loss, gradient = objective(x)
        if not np.isfinite([loss, *gradient]).all():
            loss, gradient = math.inf, 0 * direction
        trial = _Point(x, loss, gradient, step, float(gradient @ direction))
        if loss > start.loss + _DECREASE * step * slope or loss >= low.loss:
            high = trial
        elif abs(trial.slope) <= -_CURVATURE * slope:
            return trial
        else:
            behind, low = low, trial
            if high is None and trial.slope < 0:
                reach = step - behind.step
                step = _least_between(behind, low, step + reach, step + 4 * reach)
                continue
            if high is None or trial.slope * (high.step - step) >= 0:
                high = behind
        width = high.step - low.step
        step = _least_between(low, high, low.step + 0.1 * width, low.step + 0.9 * width)
    return low


def _least_between(a: _Point, b: _Point, one: float, other: float) -> float:
    """Minimum of the cubic through two points (equation 3.59), clipped to between two steps."""
    d = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.step - b.step)
    square = d * d - a.slope * b.slope
    if not 0 <= square < math.inf:
        return 0.5 * (one + other)
    root = math.copysign(math.sqrt(square), b.step - a.step)
    share = (b.slope + root - d) / (b.slope - a.slope + 2 * root or math.inf)
    return float(np.clip(b.step - (b.step - a.step) * share, min(one, other), max(one, other)))
