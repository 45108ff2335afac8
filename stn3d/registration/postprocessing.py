"""The transform as it is saved."""

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
