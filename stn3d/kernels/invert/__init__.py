"""Inversion of displacement fields."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.kernels.common.dispatch import implementation


def invert(
    displacement_vox: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    mm_from_vox: Tensor,
    tolerance_mm: float,
    max_iterations: int,
) -> tuple[Tensor, float]:
    """``w`` with ``w + u(y + w) = 0`` at the voxels y of a grid, which may differ from u's grid.

    Fixed-point iteration ``w <- -u(y + w)`` (Chen et al. 2008, doi:10.1118/1.2816107), and Newton
    steps at the points where it does not contract. Carries no gradient.

    Args:
        displacement_vox: u, ``(B, d, *shape_u)`` in voxels of its grid.
        matrix: ``(d + 1, d + 1)``, indices of u's grid from output indices.
        shape: output shape.
        mm_from_vox: ``(d, d)``, millimetres from vectors in voxels of u's grid.
        tolerance_mm: a point has converged when ``|w + u(y + w)|`` is below this.
        max_iterations: maximum number of evaluations per point, in each of two attempts.

    Returns:
        ``(B, d, *shape)`` in voxels of u's grid, and the largest residual in millimetres, infinite
        if a voxel's residual was never a finite number.
    """
    with torch.no_grad():
        return implementation(__name__, displacement_vox).invert(
            displacement_vox, matrix, tuple(shape), mm_from_vox, tolerance_mm, max_iterations
        )
