"""How a pair of scans comes onto the grid that a network works on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.preprocessing.prepared import PreparedImage, bounding_box
from stn3d.transforms import Affine, Transform

_DIM = 0.05  # of the scaled intensity: what is darker is background


def upright(grid: Grid, spacing_mm: float) -> Grid:
    """The isotropic grid along the world's axes (RAS+) that holds the domain of another grid."""
    d = grid.ndim
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * d)
    corners = corners @ grid.world_from_unit[:d, :d].T + grid.world_from_unit[:d, d]
    low, high = corners.amin(0), corners.amax(0)
    shape = [max(1, math.ceil(float(n) - 1e-6)) for n in (high - low) / spacing_mm]
    first = (low + high) / 2 - spacing_mm * (torch.tensor(shape).double() - 1) / 2
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:d, :d] *= spacing_mm
    matrix[:d, d] = first
    return Grid(tuple(shape), matrix)


def working_image(scan: PreparedImage, spacing_mm: float, margin_mm: float) -> PreparedImage:
    """A scan on an upright grid around what it shows, with a mask of where it shows anything.

    Args:
        scan: any axes, spacing and field of view.
        spacing_mm: of the grid.
        margin_mm: how much background is kept around what is brighter than that.
    """
    coarse = scan.at(spacing_mm)
    whole = coarse.warped(Affine.identity(scan.grid.ndim), upright(scan.grid, spacing_mm))
    start, stop = bounding_box(whole.image[0].amax(0) > _DIM)
    margin = math.ceil(margin_mm / spacing_mm)
    return whole.cropped([a - margin for a in start], [b + margin for b in stop])


def on_grid(scan: PreparedImage, transform: Transform, grid: Grid) -> tuple[Tensor, Tensor]:
    """A scan's image and the weights of its voxels as seen through a transform on a grid."""
    seen = scan.at(min(grid.spacing_mm)).warped(transform, grid)
    assert seen.mask is not None
    return seen.image, seen.mask
