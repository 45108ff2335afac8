"""Displacement fields in voxels, as MONAI's networks, losses and `Warp` block have them.

Convention: a DDF (dense displacement field) lives on the grid of the fixed image. At each voxel it
holds the difference between the moving image's voxel coordinates of the corresponding point and
the voxel's own index, components in the order of the axes (i, j, k). MONAI's `Warp` samples the
moving image's array there; VoxelMorph has the same convention.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.grid import Grid, apply_matrix
from stn3d.transforms import DisplacementField, Transform


@torch.no_grad()
def to_ddf(transform: Transform, fixed_grid: Grid, moving_grid: Grid) -> Tensor:
    """Displacements in voxels of a transform.

    Args:
        transform: fixed points to moving points, RAS+ millimetres; or a batch of B.
        fixed_grid: grid of the fixed image, ``(i, j[, k])`` voxels.
        moving_grid: grid of the moving image; its shape may differ from the fixed image's.

    Returns:
        ``(B, d, i, j[, k])`` displacements in voxels, float32, on the CPU.

    Raises:
        InputError: the dimensions differ.

    Examples:
        A translation by 3 mm, in a moving image with voxels of 1.5 mm:

        >>> from stn3d import Grid
        >>> from stn3d.transforms import Translation
        >>> shift = Translation(torch.tensor([3.0, 0.0]), torch.zeros(2))
        >>> fixed, moving = Grid.of_spacing((4, 5), 1.5), Grid.of_spacing((9, 9), 1.5)
        >>> ddf = to_ddf(shift, fixed, moving)
        >>> ddf.shape, ddf[0, :, 1, 2]
        (torch.Size([1, 2, 4, 5]), tensor([2., 0.]))
    """
    _check_dimensions(transform.ndim, fixed_grid, moving_grid)
    matrix = moving_grid.index_from_world
    slabs = []
    for rows in fixed_grid.slabs():
        moved = transform(fixed_grid.points_mm(rows)[None])
        slabs.append((apply_matrix(matrix, moved) - fixed_grid.points_index(rows)).float())
    return torch.cat(slabs, dim=1).movedim(-1, 1).contiguous()


@torch.no_grad()
def from_ddf(ddf: Tensor, fixed_grid: Grid, moving_grid: Grid) -> DisplacementField:
    """The transform of displacements in voxels, see `to_ddf`.

    Args:
        ddf: ``(B, d, *fixed_grid.shape)`` or ``(d, *fixed_grid.shape)`` voxels.
        fixed_grid: grid of the fixed image.
        moving_grid: grid of the moving image.

    Returns:
        Fixed points to moving points, float32 on the grid of the fixed image.

    Raises:
        InputError: the shape does not fit the grid, or the dimensions differ.

    Examples:
        >>> from stn3d import Grid
        >>> fixed, moving = Grid.of_spacing((4, 5), 1.5), Grid.of_spacing((9, 9), 1.5)
        >>> ddf = torch.zeros(1, 2, 4, 5)
        >>> ddf[:, 0] = 2
        >>> from_ddf(ddf, fixed, moving)(torch.tensor([[1.5, 3.0]]))
        tensor([[4.5000, 3.0000]])
    """
    ddf = ddf.detach().as_subclass(Tensor).cpu()
    d = fixed_grid.ndim
    ddf = ddf[None] if ddf.ndim == d + 1 else ddf
    _check_dimensions(d, fixed_grid, moving_grid)
    if ddf.ndim != d + 2 or tuple(ddf.shape[1:]) != (d, *fixed_grid.shape):
        raise InputError(
            f"a DDF for the fixed image has the shape (B, {d}, "
            f"{', '.join(str(n) for n in fixed_grid.shape)}); got {tuple(ddf.shape)}."
        )
    index = fixed_grid.points_index() + ddf.movedim(1, -1).double()
    moved = apply_matrix(moving_grid.world_from_index, index)
    vectors = moved - fixed_grid.points_mm()
    return DisplacementField(vectors.movedim(-1, 1).float().contiguous(), fixed_grid)


def _check_dimensions(d: int, fixed_grid: Grid, moving_grid: Grid) -> None:
    if not d == fixed_grid.ndim == moving_grid.ndim:
        raise InputError(
            f"the transform is {d}D, the fixed image {fixed_grid.ndim}D and the moving image "
            f"{moving_grid.ndim}D; give all in one dimension."
        )
