"""The transform as it is saved, and its inverse."""

from __future__ import annotations

from stn3d.transforms import DisplacementField, Transform, chain, rounded


def final(transform: Transform) -> Transform:
    """The transform as it is saved: on the CPU, with fields rounded to a 256th of a voxel."""
    return chain(
        *[
            rounded(DisplacementField(part.displacement_mm.cpu(), part.grid))
            if isinstance(part, DisplacementField)
            else part
            for part in transform.parts
        ]
    )


def inverted(transform: Transform) -> tuple[Transform, float]:
    """The inverse, and the largest residual of its fields in mm."""
    found: list[Transform] = []
    residual_mm = 0.0
    for part in reversed(transform.parts):
        if isinstance(part, DisplacementField):
            field, left = part.invert()
            found.append(rounded(field))
            residual_mm = max(residual_mm, left)
        else:
            found.append(part.inverse())
    return chain(*found), residual_mm
