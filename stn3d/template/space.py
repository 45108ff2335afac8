"""The grid of a template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.transforms import Linear

_MARGIN = 0.04  # of the extent, on each side
_DIGITS = 3  # of the spacing


def template_spacing_mm(grids: Sequence[Grid]) -> float:
    """Edge length of voxels as large as those of the images: the median of their sizes.

    Args:
        grids: grids of the images.
    """
    edges = [math.prod(grid.spacing_mm) ** (1 / grid.ndim) for grid in grids]
    median = float(torch.tensor(edges, dtype=torch.float64).quantile(0.5))
    return float(f"{median:.{_DIGITS}g}")


def template_grid(
    grids: Sequence[Grid],
    poses: Sequence[Linear],
    spacing_mm: float,
    plane_x_mm: float | None = None,
) -> Grid:
    """The grid of a template: isotropic voxels along the world axes (RAS).

    Each face is placed at the median of where the faces of the images' fields of view are in the
    space of the template, and 4 % of the extent further out.

    Args:
        grids: grids of the images.
        poses: points of the template to points of each image.
        spacing_mm: edge length of the voxels.
        plane_x_mm: x of a plane about which the grid is symmetric; None for none.
    """
    corners = [
        apply_matrix(torch.linalg.inv(p.matrix), _corners(g))
        for g, p in zip(grids, poses, strict=True)
    ]
    low = torch.stack([c.amin(0) for c in corners]).quantile(0.5, dim=0)
    high = torch.stack([c.amax(0) for c in corners]).quantile(0.5, dim=0)
    if plane_x_mm is not None:
        half = torch.maximum(plane_x_mm - low[0], high[0] - plane_x_mm)
        low[0], high[0] = plane_x_mm - half, plane_x_mm + half
    size = (1 + 2 * _MARGIN) * (high - low)
    shape = [max(2, math.ceil(round(float(s) / spacing_mm, 4))) for s in size]
    first = 0.5 * (low + high) - 0.5 * spacing_mm * (torch.tensor(shape).double() - 1)
    matrix = homogeneous(spacing_mm * torch.eye(len(shape)).double(), first)
    return Grid(tuple(shape), matrix.float().double())  # as a NIfTI file holds it


def _corners(grid: Grid) -> Tensor:
    """``(2^d, d)`` corners of the physical domain."""
    unit = torch.tensor(list(product((0.0, 1.0), repeat=grid.ndim)), dtype=torch.float64)
    return apply_matrix(grid.world_from_unit, unit)
