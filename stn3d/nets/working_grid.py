"""The axis-aligned isotropic grid that a network works on: images on it, fields at its border."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.preprocessing.prepared import PreparedImage, bounding_box
from stn3d.transforms import Affine, Transform

MARGIN_VOX = 4  # extent of the grid of a registration beyond the foreground of the fixed image
_BOUNDARY_VOX = 3  # voxels over which a displacement falls to 0 at the border of the grid
_BACKGROUND = 0.05  # scaled intensities up to this value are background


def axis_aligned_grid(grid: Grid, spacing_mm: float) -> Grid:
    """The isotropic grid along the world axes (RAS+) that contains the domain of another grid."""
    d = grid.ndim
    low, high = _bounds_mm(grid)
    shape = [max(1, math.ceil(float(n) - 1e-6)) for n in (high - low) / spacing_mm]
    first = (low + high) / 2 - spacing_mm * (torch.tensor(shape).double() - 1) / 2
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d, :d] *= spacing_mm
    matrix[:d, d] = first
    return Grid(tuple(shape), matrix)


def axis_aligned_voxels(grid: Grid, spacing_mm: float) -> float:
    """Number of voxels of `axis_aligned_grid`, or a little less; no number is too large."""
    low, high = _bounds_mm(grid)
    return math.prod(max(1.0, float(n)) for n in (high - low) / spacing_mm)


def _bounds_mm(grid: Grid) -> tuple[Tensor, Tensor]:
    """Lowest and highest world coordinates of a grid's domain."""
    d = grid.ndim
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * d)
    corners = corners @ grid.world_from_unit[:d, :d].T + grid.world_from_unit[:d, d]
    return corners.amin(0), corners.amax(0)


def working_image(
    image: PreparedImage, spacing_mm: float, margin_vox: int = MARGIN_VOX
) -> PreparedImage:
    """An image on an axis-aligned isotropic grid around its foreground, with a field-of-view mask.

    Args:
        image: Any orientation, spacing and field of view.
        spacing_mm: Spacing of the grid.
        margin_vox: Background kept around the foreground, in voxels of the grid.
    """
    aligned = axis_aligned_grid(image.grid, spacing_mm)
    whole = image.at(spacing_mm).warped(Affine.identity(image.grid.ndim), aligned)
    start, stop = bounding_box(whole.image[0].amax(0) > _BACKGROUND)
    return whole.cropped([a - margin_vox for a in start], [b + margin_vox for b in stop])


def resample_through(
    image: PreparedImage, transform: Transform, grid: Grid
) -> tuple[Tensor, Tensor]:
    """Intensities and voxel weights of an image read through a transform on a grid."""
    resampled = image.at(min(grid.spacing_mm)).warped(transform, grid)
    assert resampled.mask is not None
    return resampled.image, resampled.mask


def fade_at_border(u: Tensor) -> Tensor:
    """Displacements that fall to 0 at the border of their grid, so that the field is continuous.

    Args:
        u: ``(B, d, *shape)``, float32; changed in place.
    """
    kernels.apply_boundary_window(u, [_boundary_window(n) for n in u.shape[2:]])
    return u


def _boundary_window(n: int) -> Tensor:
    """``(n,)`` weights that rise from 0 at the ends to 1."""
    i = torch.arange(n)
    return (torch.minimum(i, n - 1 - i) / _BOUNDARY_VOX).clamp(max=1)
