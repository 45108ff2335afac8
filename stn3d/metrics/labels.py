"""Label maps in a form that can be counted, and the labels that are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.metrics.arrays import Array, as_array

# Labels up to this value index a histogram directly; larger ones (atlases use up to 600 million)
# are replaced by their rank.
_MAX_HISTOGRAM_LABEL = 1 << 16


@dataclass(frozen=True)
class LabelSelection:
    """The labels that are measured, and why others are not.

    Args:
        labels: measured labels in the order in which they were asked for, else ascending.
        omitted: the reason for each label that was asked for or is in a map and is not measured.
        fixed_voxels: number of voxels of each label in the fixed map.
        moving_voxels: number of voxels of each label in the moving map.
    """

    labels: tuple[int, ...]
    omitted: dict[int, str]
    fixed_voxels: dict[int, int]
    moving_voxels: dict[int, int]


def select_labels(
    fixed_labels: Array,
    moving_labels: Array,
    wanted: Sequence[int] | None = None,
    min_voxels: int = 100,
) -> LabelSelection:
    """Labels with at least ``min_voxels`` voxels in both maps, without the background 0.

    Args:
        fixed_labels: label map of the fixed image.
        moving_labels: label map of the moving image on its own grid, not warped.
        wanted: labels to measure. Default: all labels of either map except 0.
        min_voxels: minimum number of voxels in each map, at least 1.

    Raises:
        InputError: a label is not a whole number from 0 upward, 0 is asked for, or the minimum is
            less than 1.
    """
    if min_voxels < 1:
        raise InputError(f"the minimum number of voxels is {min_voxels}; give at least 1.")
    if wanted is not None and any(label < 1 for label in wanted):
        raise InputError("labels to measure are numbers from 1 upward; 0 is the background.")
    values, fixed, moving = ranked(as_array(fixed_labels), as_array(moving_labels))
    sizes = [np.bincount(ranks.ravel(), minlength=len(values)) for ranks in (fixed, moving)]
    present = np.flatnonzero((sizes[0] + sizes[1] > 0) & (values != 0))
    counts = {int(values[rank]): (int(sizes[0][rank]), int(sizes[1][rank])) for rank in present}
    labels = list(counts) if wanted is None else list(dict.fromkeys(int(v) for v in wanted))
    omitted = {
        label: reason
        for label in labels
        if (reason := _reason(*counts.get(label, (0, 0)), min_voxels)) is not None
    }
    return LabelSelection(
        tuple(label for label in labels if label not in omitted),
        omitted,
        {label: counts.get(label, (0, 0))[0] for label in labels},
        {label: counts.get(label, (0, 0))[1] for label in labels},
    )


def _reason(fixed: int, moving: int, min_voxels: int) -> str | None:
    """Why a label of these sizes is not measured; None if it is."""
    if not fixed and not moving:
        return "in neither label map"
    for role, count in (("fixed", fixed), ("moving", moving)):
        if not count:
            return f"not in the {role} label map"
    for role, count in (("fixed", fixed), ("moving", moving)):
        if count < min_voxels:
            voxels = "voxel" if count == 1 else "voxels"
            return f"{count} {voxels} in the {role} label map, fewer than {min_voxels}"
    return None


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
