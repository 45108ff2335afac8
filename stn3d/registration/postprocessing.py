"""The transform as it is saved."""

from __future__ import annotations

import torch

from stn3d.grid import Grid, apply_matrix
from stn3d.transforms import DisplacementField, Transform, chain, covering, rounded


def final(transform: Transform, grid: Grid) -> Transform:
    """The transform as it is saved: on the CPU, with fields rounded to a 256th of a voxel.

    Fields are estimated where the fixed image has texture. With zeros added they cover all of it:
    a file whose field is smaller misleads tools that do not take the identity outside.

    Args:
        transform: fixed points to moving points.
        grid: grid of the fixed image.
    """
    corners = torch.cartesian_prod(*[torch.tensor([0.0, n - 1.0]).double() for n in grid.shape])
    points = apply_matrix(grid.world_from_index, corners)
    found: list[Transform] = []
    for part in transform.parts:
        if isinstance(part, DisplacementField):
            part = covering(DisplacementField(part.displacement_mm.cpu(), part.grid), points)
            part = rounded(part)
        found.append(part)
        points = part(points)
    return chain(*found)
