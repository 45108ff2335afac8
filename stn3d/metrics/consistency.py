"""Errors of a transform against its inverse and against a known true transform."""

from __future__ import annotations

import torch

from stn3d.grid import Grid
from stn3d.metrics.arrays import Array, as_mask, as_points, length_statistics
from stn3d.transforms import Transform


@torch.no_grad()
def inverse_consistency_error_mm(
    transform: Transform, inverse: Transform, points_mm: Array
) -> dict[str, float]:
    """Inverse-consistency error ``|inverse(transform(x)) - x|`` at points x, in mm.

    Christensen et al. 2006, doi:10.1007/11784012_16.

    Args:
        transform: fixed points to moving points.
        inverse: moving points to fixed points.
        points_mm: ``(N, d)`` points in the fixed image, world RAS+ mm.

    Returns:
        ``mean``, ``p95`` and ``max`` over the points; NaN without points.

    Raises:
        InputError: the points have another dimension than the transform.
    """
    points = as_points(points_mm, transform)
    return length_statistics(inverse(transform(points)) - points)


@torch.no_grad()
def true_error_mm(
    transform: Transform, true_transform: Transform, grid: Grid, mask: Array | None = None
) -> dict[str, float]:
    """Distance ``|transform(x) - true_transform(x)|`` at the voxels x of a mask, in mm.

    Args:
        transform: fixed points to moving points.
        true_transform: the known true transform, in the same direction.
        grid: the fixed grid.
        mask: voxels above 0 are used. Default: all.

    Returns:
        ``mean``, ``p95`` and ``max`` over the voxels; NaN for an empty mask.

    Raises:
        InputError: the mask does not fit the grid.
    """
    inside = torch.from_numpy(as_mask(mask, grid))
    errors = []
    for rows in grid.slabs():
        points = grid.points_mm(rows)[inside[rows]]
        errors.append(transform(points) - true_transform(points))
    return length_statistics(torch.cat(errors))
