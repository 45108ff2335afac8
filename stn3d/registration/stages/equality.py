"""Whether the images agree already, so that a stage has nothing to find."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from stn3d.preprocessing.pair import Pair
from stn3d.reductions import voxel_sum
from stn3d.transforms import Transform

_EQUAL = 0.01  # RMS difference over the SD of the fixed image: about 0.03 voxels
_MIN_COVERED = 0.5  # of the fixed image


@torch.no_grad()
def agree_already(pair: Pair, current: Transform, spacings_mm: Sequence[float]) -> bool:
    """Whether a transform makes the images equal, on the coarsest and on the finest level.

    The force of equal images is rounding error, or the little that a metric gains by changing what
    agrees, for instance where it tolerates noise; a step of a set length would only do harm.

    Args:
        pair: The prepared images; landmarks are not images, so with them the answer is no.
        current: Fixed points to moving points.
        spacings_mm: Levels of the stage, coarse to fine.
    """
    if pair.landmarks is not None or pair.fixed.image.shape[1] != pair.moving.image.shape[1]:
        return False
    levels = dict.fromkeys([spacings_mm[0], spacings_mm[-1]])
    return all(_are_equal(pair.at(spacing), current) for spacing in levels)


def _are_equal(pair: Pair, current: Transform) -> bool:
    fixed, moved = pair.fixed, pair.moving.warped(current, pair.fixed.grid)
    weights = [mask for mask in (fixed.mask, moved.mask) if mask is not None]
    weight = math.prod(weights[1:], start=weights[0])
    total = voxel_sum(weight)
    if total < _MIN_COVERED * (weight.numel() if fixed.mask is None else voxel_sum(fixed.mask)):
        return False
    mean = voxel_sum(weight * fixed.image, 2) / total
    mean = mean.reshape(*mean.shape, *[1] * (weight.ndim - 2))
    variance = voxel_sum(weight * (fixed.image - mean) ** 2)
    return bool(voxel_sum(weight * (fixed.image - moved.image) ** 2) <= _EQUAL**2 * variance)
