"""The way back through a field."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.kernels import dispatch, reference


def invert(
    displacement_vox: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    mm_from_vox: Tensor,
    tolerance_mm: float,
    max_iterations: int,
) -> tuple[Tensor, float]:
    """``w`` with ``w + u(y + w) = 0`` at the voxels y of a grid, which may be another than u's.

    Fixed-point iteration ``w <- -u(y + w)`` (Chen et al. 2008, doi:10.1118/1.2816107), and Newton
    steps for the points at which that does not contract. Carries no gradient.

    Args:
        displacement_vox: u, ``(B, d, *shape_u)`` in the voxels of its own grid.
        matrix: ``(d + 1, d + 1)``, indices of u's grid from indices of the wanted grid.
        shape: of the wanted grid.
        mm_from_vox: ``(d, d)``, millimetres from vectors in u's voxels.
        tolerance_mm: a point is done when ``|w + u(y + w)|`` is below this.
        max_iterations: at most this many evaluations for a point, in each of two trials.

    Returns:
        ``(B, d, *shape)`` in the voxels of u's grid, and the largest residual in millimetres,
        infinite if it is nowhere a number at some voxel.
    """
    options = (matrix, tuple(shape), mm_from_vox, tolerance_mm, max_iterations)
    with torch.no_grad():
        if dispatch.fused(displacement_vox):
            from stn3d.kernels import cpu

            return cpu.invert(displacement_vox, *options)
        return reference.invert(displacement_vox, *options)
