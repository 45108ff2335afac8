"""The transform as it will be saved, and its inverse."""

from __future__ import annotations

import math

from torch import Tensor

from stn3d.grid import Grid
from stn3d.transforms import Chain, DisplacementField, Transform, chain


def parts(transform: Transform) -> tuple[Transform, ...]:
    """What a transform is made of, in order."""
    return transform.transforms if isinstance(transform, Chain) else (transform,)


def final(transform: Transform) -> Transform:
    """The transform as it will be saved: on the CPU, fields rounded to a 256th of a voxel."""
    return chain(
        *[
            _rounded(part.displacement_mm.cpu(), part.grid)
            if isinstance(part, DisplacementField)
            else part
            for part in parts(transform)
        ]
    )


def _rounded(displacement_mm: Tensor, grid: Grid) -> DisplacementField:
    """Fewer random bits, so that files shrink; the rounded field is the one that is used."""
    quantum = 2.0 ** math.floor(math.log2(min(grid.spacing_mm) / 256))
    return DisplacementField((displacement_mm / quantum).round_().mul_(quantum), grid)


def inverted(transform: Transform) -> tuple[Transform, float]:
    """The inverse and the largest residual of its fields, in mm."""
    found: list[Transform] = []
    residual_mm = 0.0
    for part in reversed(parts(transform)):
        if isinstance(part, DisplacementField):
            field, left = part.invert()
            found.append(_rounded(field.displacement_mm, field.grid))
            residual_mm = max(residual_mm, left)
        else:
            found.append(part.inverse())
    return chain(*found), residual_mm
