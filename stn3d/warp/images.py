"""Warping of images and label maps, and Jacobian determinants of transforms.

Convention: pull-back, ``moved(x) = moving(transform(x))`` for every voxel x of the fixed grid. The
image is interpolated once, also by a chain of transforms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import chain as joined

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.arguments import tensor_arguments
from stn3d.grid import Grid
from stn3d.sampler import Interpolation, inside, sample
from stn3d.transforms import Affine, DisplacementField, Transform, VelocityField, chain
from stn3d.transforms.dense import in_voxels
from stn3d.transforms.linear import Linear, split_linear


def _index_path(moving_grid: Grid, fixed_grid: Grid, transform: Transform) -> Transform:
    """The transform from indices of the fixed grid to indices of the moving grid."""
    world = Affine.from_matrix(fixed_grid.world_from_index)
    return chain(world, transform, Affine.from_matrix(moving_grid.index_from_world))


def _as_resampling(
    path: Transform, device: torch.device
) -> tuple[Tensor, kernels.Displacement | None] | None:
    """Arguments of `kernels.resample` for an index path with at most one field; otherwise None."""
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
    """Concatenate slabs along an axis; without gradients, copy each into the output in turn."""
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


@tensor_arguments()
def warp_image(
    image: Tensor,
    moving_grid: Grid,
    transform: Transform,
    fixed_grid: Grid,
    interpolation: Interpolation = "linear",
    outside_value: float = 0.0,
) -> Tensor:
    """Warp the moving image onto the fixed grid.

    Args:
        image: ``(1, C, *moving_grid.shape)`` moving image.
        moving_grid: grid of the image.
        transform: fixed points to moving points.
        fixed_grid: grid of the output.
        interpolation: ``linear``, ``nearest`` or ``cubic``.
        outside_value: value beyond the moving image.

    Returns:
        ``(1, C, *fixed_grid.shape)`` moved image in the dtype of the image (whole numbers are
        interpolated in float64 and rounded); differentiable.

    Examples:
        Translation by half a voxel:

        >>> from stn3d.transforms import Translation
        >>> grid = Grid.of_spacing((2, 3))
        >>> image = torch.arange(6.0).reshape(1, 1, 2, 3)
        >>> shift = Translation(torch.tensor([0.0, 0.5]), torch.zeros(2))
        >>> warp_image(image, grid, shift, grid)
        tensor([[[[0.5000, 1.5000, 0.0000],
                  [3.5000, 4.5000, 0.0000]]]])
    """
    path = _index_path(moving_grid, fixed_grid, transform)
    in_one_pass = interpolation == "linear" and image.is_floating_point()
    plain = _as_resampling(path, image.device) if in_one_pass else None
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


@tensor_arguments()
def warp_batch(images: Tensor, moving_grid: Grid, transform: Transform, fixed_grid: Grid) -> Tensor:
    """Warp a batch of images onto the fixed grid, each by its own transform.

    Args:
        images: ``(B, C, *moving_grid.shape)`` moving images.
        moving_grid: grid of the images.
        transform: fixed points to moving points; batches of one are broadcast, here and in
            ``images``.
        fixed_grid: grid of the output.

    Returns:
        ``(B, C, *fixed_grid.shape)`` moved images by linear interpolation, 0 beyond the moving
        images; differentiable.
    """
    path = _index_path(moving_grid, fixed_grid, transform)
    if isinstance(path, Linear) and images.is_floating_point():
        matrix = path.matrix if path.matrix.ndim > 2 else path.matrix[None]
        return kernels.sample_affine(images, matrix, fixed_grid.shape)
    dtype = images.dtype if images.is_floating_point() else torch.float64
    points = fixed_grid.points_index(device=images.device, dtype=dtype)[None]
    return sample(images, path(points))


@tensor_arguments()
def warp_labels(
    labels: Tensor,
    moving_grid: Grid,
    transform: Transform,
    fixed_grid: Grid,
    smooth: bool = False,
    outside_label: int = 0,
) -> Tensor:
    """Warp a label map onto the fixed grid; no new label values appear.

    Args:
        labels: ``(1, 1, *moving_grid.shape)`` label map of an integer dtype.
        moving_grid: grid of the label map.
        transform: fixed points to moving points.
        fixed_grid: grid of the output.
        smooth: use the label whose linearly interpolated indicator is largest (the smaller label in
            a tie) instead of the nearest voxel's label.
        outside_label: label beyond the moving image.

    Returns:
        ``(1, 1, *fixed_grid.shape)`` labels of the same dtype.

    Examples:
        >>> from stn3d.transforms import Translation
        >>> grid = Grid.of_spacing((2, 3))
        >>> labels = torch.tensor([[1, 1, 2], [1, 2, 2]])[None, None]
        >>> shift = Translation(torch.tensor([0.0, 1.0]), torch.zeros(2))
        >>> warp_labels(labels, grid, shift, grid)
        tensor([[[[1, 2, 0],
                  [2, 2, 0]]]])
    """
    if not smooth:
        return warp_image(labels, moving_grid, transform, fixed_grid, "nearest", outside_label)
    path = _index_path(moving_grid, fixed_grid, transform)
    plain = _as_resampling(path, labels.device)
    if plain is not None:
        matrix, moves = plain
        return kernels.resample_labels(labels, matrix, fixed_grid.shape, moves, outside_label)
    wide = labels.int() if labels.element_size() < 4 else labels
    slabs = (
        _labels_of_rows(wide, path, fixed_grid, rows, outside_label) for rows in fixed_grid.slabs()
    )
    return _stacked(slabs, fixed_grid.shape[0]).to(labels.dtype)


def _labels_of_rows(
    labels: Tensor, path: Transform, grid: Grid, rows: slice, outside_label: int
) -> Tensor:
    """Some rows of `warp_labels` through any path, by the displacements of their voxels."""
    index = grid.points_index(rows, device=labels.device)
    moves = (path.forward(index) - index).movedim(-1, 0)[None]
    shape, d = tuple(moves.shape[2:]), grid.ndim
    start = torch.eye(d + 1, dtype=torch.float64)
    start[0, -1] = rows.start
    field = kernels.Displacement(
        moves, torch.eye(d + 1, dtype=torch.float64), torch.eye(d, dtype=torch.float64)
    )
    return kernels.resample_labels(labels, start, shape, field, outside_label)


@tensor_arguments()
def resample_image(image: Tensor, grid: Grid, target: Grid) -> Tensor:
    """Resample an image to a grid with the same axes, e.g. from `Grid.resampled`.

    Along axes that become coarser the image is smoothed first, against aliasing, by a Gaussian with
    a sigma of ``0.5 * sqrt(ratio**2 - 1)`` voxels, where ``ratio`` is that of the spacings.

    Args:
        image: ``(1, C, *grid.shape)``, floating-point.
        grid: grid of the image.
        target: grid of the output, with the same axes.

    Returns:
        ``(1, C, *target.shape)`` image, 0 beyond the input image.
    """
    ratios = [t / s for s, t in zip(grid.spacing_mm, target.spacing_mm, strict=True)]
    sigmas = [0.5 * math.sqrt(max(r * r - 1, 0)) for r in ratios]
    if max(sigmas) > 0:
        image = kernels.gaussian_smooth(image, sigmas)
    return kernels.resample(image, grid.index_from_world @ target.world_from_index, target.shape)


def fov_overlap_fraction(moving_grid: Grid, transform: Transform, fixed_grid: Grid) -> float:
    """Fraction of the fixed grid that is mapped into the moving grid.

    Computed at its voxels, or at about 250,000 points of a larger grid.
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
    """Determinants of the transform's Jacobian at the voxels of a grid.

    Computed by central differences over one voxel, one-sided at the faces of the grid. 1 means
    unchanged volume, 2 twice the volume in the moving image, 0 and below folding.

    Args:
        transform: fixed points to moving points.
        grid: grid at which to evaluate. Along an axis of a single voxel, only the linear part
            of the transform changes a volume.

    Returns:
        ``grid.shape`` determinants.
    """
    before, linear = split_linear(transform)
    factor = torch.ones(())
    if linear is not None:  # multiplies all determinants of the preceding part by a constant
        factor = torch.linalg.det(linear.jacobian(grid.centre_mm)).float()
    if before is None:
        return factor.repeat(grid.shape)
    measure = kernels.jacobian_determinant
    slabs = (_measured(measure, before, grid, rows) for rows in grid.slabs())
    det = _stacked(slabs, grid.shape[0], axis=0)
    return det.mul_(factor.to(det))


def non_diffeomorphic_volume(transform: Transform, grid: Grid) -> Tensor:
    """Volume that a transform folds at the voxels of a grid (NDV; in 2D the area, NDA).

    It is 0 everywhere for a digital diffeomorphism. Folding between voxels is found that central
    differences do not show. Liu et al. 2024, doi:10.1007/s11263-024-02047-1.

    Args:
        transform: fixed points to moving points.
        grid: grid at which to evaluate.

    Returns:
        ``grid.shape`` volumes in the moving image, in voxels of the grid.
    """
    before, linear = split_linear(transform)
    factor = 1.0 if linear is None else float(torch.linalg.det(linear.jacobian(grid.centre_mm)))
    if before is None:
        return torch.full(grid.shape, max(-factor, 0.0))

    def folded(moves: Tensor) -> Tensor:
        return kernels.folded_volume(moves, factor < 0)

    slabs = (_measured(folded, before, grid, rows) for rows in grid.slabs())
    return _stacked(slabs, grid.shape[0], axis=0).mul_(abs(factor))


def _measured(
    measure: Callable[[Tensor], Tensor], transform: Transform, grid: Grid, rows: slice
) -> Tensor:
    """A measure of the displacements in voxels, with one more plane on either side of the rows."""
    start, stop = max(rows.start - 1, 0), min(rows.stop + 1, grid.shape[0])
    part = grid.cropped([start] + [0] * (grid.ndim - 1), [stop, *grid.shape[1:]])
    field = _field(transform)
    if field is not None:
        field_from_part = field.grid.index_from_world @ part.world_from_index
        vectors = field.displacement_mm.float()
        moves = kernels.resample(vectors, field_from_part, part.shape)
    else:
        # Displacements, not positions: far from the origin float32 does not resolve a voxel.
        points = part.points_mm()
        moves = (transform.forward(points) - points).float().movedim(-1, 0)[None]
    return measure(in_voxels(moves, part))[0][rows.start - start : rows.stop - start]


def _field(transform: Transform) -> DisplacementField | None:
    """The displacement field of a transform; None for other transforms and for batches."""
    field = transform.displacement if isinstance(transform, VelocityField) else transform
    return (
        field if isinstance(field, DisplacementField) and len(field.displacement_mm) == 1 else None
    )
