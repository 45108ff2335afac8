"""The losses of all stages as a line plot: numbers for an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 1000.0, 100.0
_GAP = 0.012  # between levels, of the width
_LEAST = 0.06  # width of a level with one evaluation, relative to an equal share


@dataclass(frozen=True)
class Level:
    """The losses on one resolution level.

    Args:
        stage: name of the stage.
        spacing_mm: voxel size.
        first: loss at the first evaluation.
        last: loss at the last evaluation.
        evaluations: their number.
        left: left edge in the plot, 0 to 100.
        width: its width, on the same scale.
        line: points of the line within the level's box, 0 to 100 in x and y, y down.
    """

    stage: str
    spacing_mm: float
    first: float
    last: float
    evaluations: int
    left: float
    width: float
    line: str


def levels_of(stages: Sequence[Mapping[str, Any]]) -> list[Level]:
    """The levels side by side, as wide as they have evaluations (by the square root).

    Losses of different levels are not comparable, so each level has a scale of its own.

    Args:
        stages: the key ``stages`` of metrics.json.
    """
    counts = [max(1, len(one.get("losses") or (0, 0))) for one in stages]
    roots = [math.sqrt(count) for count in counts]
    room = 100 * (1 - _GAP * max(0, len(stages) - 1))
    left, found = 0.0, []
    for one, root in zip(stages, roots, strict=True):
        width = room * root / sum(roots)
        losses = [float(v) for v in one.get("losses") or (one["first_loss"], one["last_loss"])]
        found.append(
            Level(
                str(one["stage"]),
                float(one["spacing_mm"]),
                float(one["first_loss"]),
                float(one["last_loss"]),
                int(one["evaluations"]),
                round(left, 2),
                round(width, 2),
                _line(losses),
            )
        )
        left += width + 100 * _GAP
    return found


def _line(losses: Sequence[float]) -> str:
    """An SVG polyline of losses in a box of 100 by 100, from the lowest to the first one, so that
    trial steps of a line search do not set the scale."""
    low, high = min(losses), losses[0]
    span = high - low or max(losses) - low or 1.0
    step = 100 / max(1, len(losses) - 1)
    heights = [95 - 90 * min(1.0, (loss - low) / span) for loss in losses]
    return " ".join(f"{n * step:.1f},{height:.1f}" for n, height in enumerate(heights))
