"""The frequencies that an image shows along its axes: how sharp it is."""

from __future__ import annotations

import math

from torch import Tensor

from stn3d.preprocessing.prepared import PreparedImage
from stn3d.reductions import voxel_mean

BACKGROUND = 0.05
"""Part of the intensity range up to which a voxel shows nothing."""

_MIN_VOXELS = 1000  # along each axis; fewer say nothing
_MANY_VOXELS = 1 << 21  # more are not needed
_COMPARED_MM = 2.0
# Squared frequency at 2 mm, (rad / voxel)^2, along the sharpest axis: 0.1 in PET and SPECT, 0.2 in
# averages of heads that were smoothed by 8 mm and in FLAIR smoothed by 5 mm, 0.8 and more in sharp
# averages and in MR, with thick slices too.
_BLURRED = 0.4


def is_blurred(image: PreparedImage) -> bool:
    """Whether an image is blurred along all axes, as by a Gaussian of 5 mm or more.

    Args:
        image: The image; only its first channel is read.
    """
    level = image.at(_COMPARED_MM)
    values = level.image[:, :1]
    shown = values > BACKGROUND
    found = [squared_frequency(values, shown, axis) for axis in range(level.grid.ndim)]
    return 0 < max(found) < _BLURRED


def squared_frequency(values: Tensor, shown: Tensor, axis: int) -> float:
    """Mean square of second differences along an axis, relative to that of first differences.

    That of one wave is the square of its frequency in radians per voxel, for low frequencies.

    Args:
        values: ``(1, 1, *shape)``.
        shown: ``(1, 1, *shape)`` bool, voxels that are read.
        axis: The axis.

    Returns:
        (rad / voxel)^2; 0 where too little is shown.
    """
    step = math.ceil(math.sqrt(values.numel() / _MANY_VOXELS))
    lines = tuple(
        slice(None, None, 1 if a in (0, 1, axis + 2) else step) for a in range(values.ndim)
    )
    values, shown = values[lines], shown[lines]
    n = values.shape[axis + 2]
    if n < 3:
        return 0.0
    a, b, c = (values.narrow(axis + 2, k, n - 2) for k in range(3))
    whole = shown.narrow(axis + 2, 0, n - 2) & shown.narrow(axis + 2, 1, n - 2)
    whole &= shown.narrow(axis + 2, 2, n - 2)
    first, second = ((c - a)[whole] / 2, (a - 2 * b + c)[whole])
    if len(first) < _MIN_VOXELS or not bool(first.any()):
        return 0.0
    return float(voxel_mean(second**2) / voxel_mean(first**2))
