"""Label maps in a form that can be counted, and the labels that are large enough to score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.metrics.arrays import Array, as_array

# Labels up to this value index a histogram directly; larger ones (atlases use up to 600 million)
# are replaced by their rank.
_MAX_HISTOGRAM_LABEL = 1 << 16


def scored_labels(fixed_labels: Array, moving_labels: Array, min_voxels: int = 100) -> list[int]:
    """Labels with at least ``min_voxels`` voxels in both maps, without the background 0.

    Args:
        fixed_labels: label map of the fixed image.
        moving_labels: label map of the moving image on its own grid, not warped.
        min_voxels: minimum number of voxels in each map.

    Returns:
        The labels in ascending order.
    """
    values, fixed, moving = ranked(as_array(fixed_labels), as_array(moving_labels))
    large = values != 0
    for ranks in (fixed, moving):
        large &= np.bincount(ranks.ravel(), minlength=len(values)) >= min_voxels
    return [int(value) for value in values[large]]


def whole_numbers(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels in a signed integer dtype.

    Raises:
        InputError: a label is not a whole number, or negative.
    """
    if labels.dtype.kind == "f":
        whole = labels.astype(np.int64) if np.isfinite(labels).all() else np.full(1, -1)
        if not np.array_equal(whole, labels):
            raise InputError("a label map holds fractions, NaN or Inf; labels are whole numbers.")
        labels = whole
    if labels.size and labels.min() < 0:
        raise InputError("a label map holds negative numbers; labels go from 0 upward.")
    return labels if labels.dtype.kind == "i" else labels.astype(np.int64)


def ranked(
    first: NDArray[Any], second: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Ascending label values, beginning with 0, and both maps as indices into them.

    Raises:
        InputError: a label is not a whole number, or negative.
    """
    first, second = whole_numbers(first), whole_numbers(second)
    largest = max(int(labels.max(initial=0)) for labels in (first, second))
    if largest <= _MAX_HISTOGRAM_LABEL:
        return np.arange(largest + 1), first, second
    values = np.unique(np.concatenate([[0], np.unique(first), np.unique(second)]))
    return values, np.searchsorted(values, first), np.searchsorted(values, second)
