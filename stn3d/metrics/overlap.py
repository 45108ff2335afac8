"""Overlap of label maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stn3d.errors import InputError
from stn3d.metrics.arrays import Array, as_array
from stn3d.metrics.labels import ranked


def dice(
    fixed_labels: Array, moved_labels: Array, labels: Sequence[int] | None = None
) -> dict[int, float]:
    """Dice coefficient ``2 |A ∩ B| / (|A| + |B|)`` of each label, from 0 to 1; higher is better.

    Dice 1945, doi:10.2307/1932409.

    Args:
        fixed_labels: label map of the fixed image.
        moved_labels: moving label map on the fixed grid. Use nearest-neighbour interpolation for
            values that are comparable with other tools.
        labels: labels to measure. Default: all labels of either map except 0.

    Returns:
        Dice of each label; NaN where neither map contains it.

    Raises:
        InputError: the maps have different shapes, or a label is not a whole number from 0 upward.
    """
    fixed, moved = as_array(fixed_labels).squeeze(), as_array(moved_labels).squeeze()
    if fixed.shape != moved.shape:
        raise InputError(
            f"label maps of shapes {fixed.shape} and {moved.shape} cannot be compared; "
            "warp the moving one to the fixed grid."
        )
    values, fixed, moved = ranked(fixed, moved)
    size = len(values)
    total = np.bincount(fixed.ravel(), minlength=size) + np.bincount(moved.ravel(), minlength=size)
    both = np.bincount(fixed[fixed == moved], minlength=size)
    present = {int(values[rank]): rank for rank in np.flatnonzero(total)}
    wanted = [v for v in present if v != 0] if labels is None else [int(v) for v in labels]
    return {
        v: float(2 * both[present[v]] / total[present[v]]) if v in present else math.nan
        for v in wanted
    }
