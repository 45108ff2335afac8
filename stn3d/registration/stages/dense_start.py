"""The current transform as a level of the deformable stage begins with it."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Affine, DisplacementField, Linear, Transform, split_linear
from stn3d.transforms.dense import in_voxels
from stn3d.warp import resample_image


def field_and_linear(transform: Transform, grid: Grid) -> tuple[DisplacementField | None, Linear]:
    """A transform as a displacement of a grid's points, None for none, and then a linear one."""
    before, linear = split_linear(transform)
    linear = linear or Affine.identity(grid.ndim)
    if before is None or isinstance(before, DisplacementField):
        return before, linear
    return field_before(transform, linear, grid), linear


def field_before(transform: Transform, linear: Linear, grid: Grid) -> DisplacementField:
    """The field on a grid that, followed by a linear transform, equals a transform there."""
    back = linear.inverse()
    moves = [
        (back(transform(points)) - points).float()
        for points in (grid.points_mm(rows) for rows in grid.slabs())
    ]
    return DisplacementField(torch.cat(moves).movedim(-1, 0)[None], grid)


def voxels_from_mm(field: DisplacementField | None, image: PreparedImage) -> Tensor:
    """Vectors of a field, None for zeros, at an image's voxels, in voxels, with 0 at its faces."""
    grid = image.grid
    if field is None:
        return torch.zeros(1, grid.ndim, *grid.shape).to(image.image)
    u_mm = resample_image(field.displacement_mm.to(image.image), field.grid, grid)
    u = in_voxels(u_mm, grid).contiguous()
    for axis, n in enumerate(grid.shape, start=2):
        if n > 1:
            u.select(axis, 0).zero_()
            u.select(axis, -1).zero_()
    return u
