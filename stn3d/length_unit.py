"""Lengths that follow from the images: registration assumes no size in millimetres.

Voxel sizes are written in millimetres, but an image may show a cell, a mouse or a whale, and its
header may hold another unit. Default lengths are therefore multiples of a unit that scales with the
images: the same voxels in any unit are registered alike. For a human head the unit is 1 mm.
"""

from __future__ import annotations

import math

from stn3d.grid import Grid

_LONGEST_UNITS = 170  # the longest extent has this many units or more, below twice as many


def finest_common_mm(fixed: Grid, moving: Grid) -> float:
    """The finest spacing that both grids have along some axis; the thickness of a single slice is
    none."""
    return max(_finest_mm(fixed), _finest_mm(moving))


def _finest_mm(grid: Grid) -> float:
    between = [s for s, n in zip(grid.spacing_mm, grid.shape, strict=True) if n > 1]
    return min(between or grid.spacing_mm)


def length_unit_mm(fixed: Grid, moving: Grid) -> float:
    """The length unit of a pair, in mm.

    The finest spacing that both grids have, times a power of two, such that the longest extent of
    the smaller grid is 170 to 340 units.

    Examples:
        >>> heads = [Grid.of_spacing((220 / s,) * 3, s) for s in (0.5, 1, 2)]
        >>> [length_unit_mm(head, head) for head in heads]
        [1.0, 1.0, 1.0]
        >>> atlas = Grid.of_spacing((456, 320, 528), 0.025)
        >>> length_unit_mm(atlas, atlas)
        0.05
    """
    finest_mm = finest_common_mm(fixed, moving)
    longest_mm = min(max(fixed.size_mm), max(moving.size_mm))
    return finest_mm * 2.0 ** math.floor(log2(longest_mm / finest_mm / _LONGEST_UNITS))


def log2(ratio: float) -> float:
    """Base-2 logarithm, rounded so that a floor does not depend on rounding errors of headers."""
    return round(math.log2(ratio), 6)


def length_text(length_mm: float, decimals: int) -> str:
    """A length in mm with a number of decimals, or in two significant digits where those hide it.

    Examples:
        >>> length_text(12.34, 1), length_text(0.0, 1), length_text(0.00321, 1)
        ('12.3', '0.0', '0.0032')
    """
    hidden = 0 < abs(length_mm) < 0.5 * 10.0**-decimals
    return f"{length_mm:.2g}" if hidden else f"{length_mm:.{decimals}f}"
