"""Carry images, labels and points through a transform; the Jacobian of any transform on a grid.

Convention: pull-back, ``moved(x) = moving(transform(x))`` for every voxel x of the fixed grid. An
image is interpolated once, whatever the transform is made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain as joined

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.sampler import Interpolation, inside, sample
from stn3d.transforms import Chain, DisplacementField, Transform, VelocityField, chain
from stn3d.transforms.dense import in_voxels
from stn3d.transforms.linear import Linear


def _moving_index(
    moving_grid: Grid,
    fixed_grid: Grid,
    transform: Transform,
    rows: slice,
    device: torch.device,
) -> Tensor:
    """Where the fixed voxels of some rows fall, in indices of the moving grid, float64."""
    points = transform.forward(fixed_grid.points_mm(rows, device=device))
    return apply_matrix(moving_grid.index_from_world, points)


def _stacked(slabs: Iterable[Tensor], planes: int, axis: int = 2) -> Tensor:
    """Slabs joined along an axis into ``planes``; no second copy where no gradient flows."""
    rest = iter(slabs)
    first = next(rest)
    if first.requires_grad:
        return torch.cat([first, *rest], dim=axis)
    out = first.new_empty(*first.shape[:axis], planes, *first.shape[axis + 1 :])
    row = 0
    for slab in joined([first], rest):
        out.narrow(axis, row, slab.shape[axis]).copy_(slab)
        row += slab.shape[axis]
    return out


def warp_image(
    image: Tensor,
    moving_grid: Grid,
    transform: Transform,
    fixed_grid: Grid,
    interpolation: Interpolation = "linear",
    outside_value: float = 0.0,
) -> Tensor:
    """The moving image as seen on the fixed grid.

    Args:
        image: ``(1, C, *moving_grid.shape)``.
        moving_grid: the image's grid.
        transform: fixed points to moving points.
        fixed_grid: where values are wanted.
        interpolation: how to read between voxels.
        outside_value: what lies beyond the moving image.

    Returns:
        ``(1, C, *fixed_grid.shape)`` in the image's dtype; differentiable.
    """
    slabs = (
        sample(
            image,
            _moving_index(moving_grid, fixed_grid, transform, rows, image.device)[None],
            interpolation,
            outside_value,
        )
        for rows in fixed_grid.slabs()
    )
    return _stacked(slabs, fixed_grid.shape[0])


def warp_labels(
    labels: Tensor,
    moving_grid: Grid,
    transform: Transform,
    fixed_grid: Grid,
    smooth: bool = False,
) -> Tensor:
    """A label map as seen on the fixed grid; no label appears that was not there.

    Args:
        labels: ``(1, 1, *moving_grid.shape)`` whole numbers of an integer dtype.
        moving_grid: the label map's grid.
        transform: fixed points to moving points.
        fixed_grid: where labels are wanted.
        smooth: take the label whose linearly interpolated indicator is largest (a tie goes to the
            smaller label), rather than the nearest voxel's. Beyond the image is background, 0.

    Returns:
        ``(1, 1, *fixed_grid.shape)`` of the same dtype.
    """
    if not smooth:
        return warp_image(labels, moving_grid, transform, fixed_grid, "nearest")
    values = torch.unique(labels)
    slabs = []
    for rows in fixed_grid.slabs():
        index = _moving_index(moving_grid, fixed_grid, transform, rows, labels.device)[None]
        beyond = ~inside(index, moving_grid.shape)[:, None]
        best = torch.where(beyond, 1.0, -1.0)
        label = torch.zeros_like(beyond, dtype=labels.dtype)
        for value in values:
            share = sample((labels == value).float(), index)
            label = torch.where(share > best + 1e-4, value, label)  # rounding decides no tie
            best = torch.maximum(share, best)
        slabs.append(label)
    return torch.cat(slabs, dim=2)


def resample_image(image: Tensor, grid: Grid, target: Grid) -> Tensor:
    """An image on a grid that came from its own by `Grid.resampled` and the like.

    Where the target is coarser, a Gaussian of half the spacing that is gained goes first, so that
    no detail finer than the target's voxels is left to alias.

    Args:
        image: ``(1, C, *grid.shape)`` floating.
        grid: the image's grid.
        target: a grid with the same axes.

    Returns:
        ``(1, C, *target.shape)``; beyond the image 0.
    """
    ratios = [t / s for s, t in zip(grid.spacing_mm, target.spacing_mm, strict=True)]
    smooth = kernels.gaussian_smooth(image, [0.5 * math.sqrt(max(r * r - 1, 0)) for r in ratios])
    index_from_target = grid.index_from_world @ target.world_from_index
    slabs = (
        sample(smooth, apply_matrix(index_from_target, target.points_index(rows))[None].to(image))
        for rows in target.slabs()
    )
    return _stacked(slabs, target.shape[0])


def overlap(moving_grid: Grid, transform: Transform, fixed_grid: Grid) -> float:
    """The share of the fixed grid that falls into the moving grid.

    Counted at its voxels; where it has more than a quarter of a million, at that many points.
    """
    step = (fixed_grid.num_voxels / 250_000) ** (1 / fixed_grid.ndim)
    if step > 1:
        fixed_grid = fixed_grid.resampled([step * s for s in fixed_grid.spacing_mm])
    count = 0
    for rows in fixed_grid.slabs():
        index = _moving_index(moving_grid, fixed_grid, transform, rows, torch.device("cpu"))
        count += int(inside(index, moving_grid.shape).sum())
    return count / fixed_grid.num_voxels


def jacobian_determinant(transform: Transform, grid: Grid) -> Tensor:
    """``grid.shape`` determinants of the transform's Jacobian, by central differences of one voxel.

    One-sided at the grid's faces; 1 along an axis of a single voxel. Volumes of mm: 1 keeps size,
    2 doubles it on the way from fixed to moving, 0 and below is folding.
    """
    parts = transform.transforms if isinstance(transform, Chain) else (transform,)
    factor = torch.ones(())
    if isinstance(parts[-1], Linear) and len(parts) > 1 and min(grid.shape) > 1:
        # What is linear at the end scales every difference of what comes before alike.
        factor = torch.linalg.det(parts[-1].jacobian(grid.centre_mm)).float()
        transform = chain(*parts[:-1])
    slabs = (_determinants(transform, grid, rows) for rows in grid.slabs())
    det = _stacked(slabs, grid.shape[0], axis=0)
    return det.mul_(factor.to(det))


def _determinants(transform: Transform, grid: Grid, rows: slice) -> Tensor:
    """`jacobian_determinant` of some rows; a plane more on either side serves the differences."""
    start, stop = max(rows.start - 1, 0), min(rows.stop + 1, grid.shape[0])
    part = grid.cropped([start] + [0] * (grid.ndim - 1), [stop, *grid.shape[1:]])
    moves = _moves_of_field(transform, part)
    if moves is None:
        # Displacements, not positions: far from the origin float32 has no digits left for a voxel.
        points = part.points_mm()
        moves = (transform.forward(points) - points).float().movedim(-1, 0)[None]
    det = kernels.jacobian_determinant(in_voxels(moves, part))[0]
    return det[rows.start - start : rows.stop - start]


def _moves_of_field(transform: Transform, grid: Grid) -> Tensor | None:
    """A field's vectors ``(1, d, *shape)`` at a grid's voxels; None for what is no field."""
    field = transform.displacement if isinstance(transform, VelocityField) else transform
    if not isinstance(field, DisplacementField) or len(field.displacement_mm) > 1:
        return None
    field_from_grid = field.grid.index_from_world @ grid.world_from_index
    start = field_from_grid[:-1, -1].round()
    far = torch.tensor([*grid.shape, 1.0]).double()
    gap = field_from_grid[:-1] - homogeneous(torch.eye(grid.ndim).double(), start)[:-1]
    if float((gap.abs() @ far).max()) > 1e-4:
        index = apply_matrix(field_from_grid, grid.points_index(dtype=torch.float32))
        return sample(field.displacement_mm.float(), index[None].to(field.displacement_mm.device))
    pads = [
        (-int(a), int(a) + n - m)
        for a, n, m in zip(start, grid.shape, field.grid.shape, strict=True)
    ]
    # Beyond its grid a field is zero; a negative pad cuts off.
    return F.pad(field.displacement_mm.float(), [p for pair in reversed(pads) for p in pair])
