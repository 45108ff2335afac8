"""Carry images, labels and points through a transform; the Jacobian of any transform on a grid.

Convention: pull-back, ``moved(x) = moving(transform(x))`` for every voxel x of the fixed grid. An
image is interpolated once, whatever the transform is made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain as joined

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.sampler import Interpolation, inside, sample
from stn3d.transforms import Affine, DisplacementField, Transform, VelocityField, chain
from stn3d.transforms.dense import in_voxels
from stn3d.transforms.linear import Linear, split_linear


def _index_path(moving_grid: Grid, fixed_grid: Grid, transform: Transform) -> Transform:
    """A transform from indices of the fixed grid to indices of the moving grid."""
    world = Affine.from_matrix(fixed_grid.world_from_index)
    return chain(world, transform, Affine.from_matrix(moving_grid.index_from_world))


def _as_resampling(
    path: Transform, device: torch.device
) -> tuple[Tensor, kernels.Displacement | None] | None:
    """What `_index_path` gives, as `kernels.resample` takes it, if there is at most one field."""
    matrices = [part.matrix.cpu() for part in path.parts if isinstance(part, Linear)]
    fields = [field for part in path.parts if (field := _field(part)) is not None]
    batched = any(matrix.ndim > 2 for matrix in matrices)
    if len(matrices) + len(fields) < len(path.parts) or len(fields) > 1 or batched:
        return None
    if not fields:
        return matrices[0], None
    field, (first, last) = fields[0], matrices
    vectors = field.displacement_mm.to(device)
    return last @ first, kernels.Displacement(
        vectors, field.grid.index_from_world @ first, last[:-1, :-1]
    )


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
    path = _index_path(moving_grid, fixed_grid, transform)
    plain = _as_resampling(path, image.device) if interpolation == "linear" else None
    if plain is not None:
        matrix, moves = plain
        return kernels.resample(image, matrix, fixed_grid.shape, moves, outside_value)
    slabs = (
        sample(
            image,
            path.forward(fixed_grid.points_index(rows, device=image.device))[None],
            interpolation,
            outside_value,
        )
        for rows in fixed_grid.slabs()
    )
    return _stacked(slabs, fixed_grid.shape[0])


def warp_batch(images: Tensor, moving_grid: Grid, transform: Transform, fixed_grid: Grid) -> Tensor:
    """Images of a batch as seen on the fixed grid, each through its own transform.

    Args:
        images: ``(B, C, *moving_grid.shape)``.
        moving_grid: the images' grid.
        transform: fixed points to moving points; a batch of one on either side serves all of the
            other.
        fixed_grid: where values are wanted.

    Returns:
        ``(B, C, *fixed_grid.shape)``, read linearly, 0 beyond an image; differentiable.
    """
    path = _index_path(moving_grid, fixed_grid, transform)
    if isinstance(path, Linear):
        matrix = path.matrix if path.matrix.ndim > 2 else path.matrix[None]
        return kernels.sample_affine(images, matrix, fixed_grid.shape)
    points = fixed_grid.points_index(device=images.device, dtype=images.dtype)[None]
    return sample(images, path(points))


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
    path, slabs = _index_path(moving_grid, fixed_grid, transform), []
    for rows in fixed_grid.slabs():
        index = path.forward(fixed_grid.points_index(rows, device=labels.device))[None]
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
    sigmas = [0.5 * math.sqrt(max(r * r - 1, 0)) for r in ratios]
    if max(sigmas) > 0:
        image = kernels.gaussian_smooth(image, sigmas)
    return kernels.resample(image, grid.index_from_world @ target.world_from_index, target.shape)


def fov_overlap_fraction(moving_grid: Grid, transform: Transform, fixed_grid: Grid) -> float:
    """The share of the fixed grid that falls into the moving grid.

    Counted at its voxels; where it has more than a quarter of a million, at that many points.
    """
    step = (fixed_grid.num_voxels / 250_000) ** (1 / fixed_grid.ndim)
    if step > 1:
        fixed_grid = fixed_grid.resampled([step * s for s in fixed_grid.spacing_mm])
    path, count = _index_path(moving_grid, fixed_grid, transform), 0
    for rows in fixed_grid.slabs():
        index = path.forward(fixed_grid.points_index(rows))
        count += int(inside(index, moving_grid.shape).sum())
    return count / fixed_grid.num_voxels


def jacobian_determinant(transform: Transform, grid: Grid) -> Tensor:
    """``grid.shape`` determinants of the transform's Jacobian, by central differences of one voxel.

    One-sided at the grid's faces; 1 along an axis of a single voxel. Volumes of mm: 1 keeps size,
    2 doubles it on the way from fixed to moving, 0 and below is folding.
    """
    before, linear = split_linear(transform) if min(grid.shape) > 1 else (transform, None)
    factor = torch.ones(())
    if linear is not None:  # it scales every difference of what comes before alike
        factor = torch.linalg.det(linear.jacobian(grid.centre_mm)).float()
    if before is None:
        return factor.repeat(grid.shape)
    slabs = (_determinants(before, grid, rows) for rows in grid.slabs())
    det = _stacked(slabs, grid.shape[0], axis=0)
    return det.mul_(factor.to(det))


def _determinants(transform: Transform, grid: Grid, rows: slice) -> Tensor:
    """`jacobian_determinant` of some rows; a plane more on either side serves the differences."""
    start, stop = max(rows.start - 1, 0), min(rows.stop + 1, grid.shape[0])
    part = grid.cropped([start] + [0] * (grid.ndim - 1), [stop, *grid.shape[1:]])
    field = _field(transform)
    if field is not None:
        field_from_part = field.grid.index_from_world @ part.world_from_index
        vectors = field.displacement_mm.float()
        moves = kernels.resample(vectors, field_from_part, part.shape)
    else:
        # Displacements, not positions: far from the origin float32 has no digits left for a voxel.
        points = part.points_mm()
        moves = (transform.forward(points) - points).float().movedim(-1, 0)[None]
    det = kernels.jacobian_determinant(in_voxels(moves, part))[0]
    return det[rows.start - start : rows.stop - start]


def _field(transform: Transform) -> DisplacementField | None:
    """A field that is no batch of several; None for what is none."""
    field = transform.displacement if isinstance(transform, VelocityField) else transform
    return (
        field if isinstance(field, DisplacementField) and len(field.displacement_mm) == 1 else None
    )
