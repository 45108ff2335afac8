"""A check of the extents of both images: headers in other units, or in none."""

from __future__ import annotations

import math

from stn3d.errors import InputError
from stn3d.registration.inputs.image import LoadedImage

_MAX_RATIO = 8.0  # of the extents of two images of one object

# Ratio of extents, its largest deviation as a factor, and the likely error.
_UNIT_ERRORS = (
    (10.0, 1.5, "such as centimetres written as millimetres"),
    (25.4, 1.2, "such as inches written as millimetres, or voxels of 25 um with a size of 1"),
    (1000.0, 2.5, "such as micrometres or metres written as millimetres"),
)


def require_similar_extents(fixed: LoadedImage, moving: LoadedImage) -> None:
    """Check that neither image is many times as large as the other.

    The longest two extents of each image count, so that a slab or a slice may be registered to a
    whole volume.

    Raises:
        InputError: one image is more than eight times as large.
    """
    extents = [sorted(side.grid.size_mm, reverse=True)[:2] for side in (fixed, moving)]
    ratios = [b / a for a, b in zip(*extents, strict=True)]
    ratio = min(ratios) if min(ratios) > 1 else 1 / max(ratios)
    if ratio <= _MAX_RATIO:
        return
    small, large = (fixed, moving) if ratios[0] > 1 else (moving, fixed)
    raise InputError(
        f"the {large.role} image {large.name} ({_size(large)}) is about {_number(ratio)} times as "
        f"large as the {small.role} image {small.name} ({_size(small)}), so the voxel size in one "
        f"header is probably in another unit, {_likely(ratio)}; correct that header, or, if both "
        "are right, crop the larger image or give --init header or a transform."
    )


def _size(side: LoadedImage) -> str:
    return " x ".join(map(_number, side.grid.size_mm)) + " mm"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _likely(ratio: float) -> str:
    """The error of units that explains a ratio best."""
    for factor, deviation, words in _UNIT_ERRORS:
        if abs(math.log(ratio / factor)) <= math.log(deviation):
            return words
    return "such as micrometres written as millimetres"
