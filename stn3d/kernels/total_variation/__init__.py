"""Smoothing of displacement fields that keeps jumps: total variation."""

from __future__ import annotations

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation

# Of the dual ascent: at most 1 / (4 d).
_STEP = 1 / 12


def total_variation_smooth(field_vox: Tensor, weight: float, iterations: int) -> Tensor:
    """The field u of lowest ``|u - f|^2 / 2 + weight TV(u)`` for a field f, approximately.

    The total variation sums the Frobenius norms of the Jacobian matrices of u, so that components
    jump at the same places. Unlike a Gaussian, it keeps a displacement that jumps, as where organs
    slide along a wall. Projected gradient ascent of the dual problem (Chambolle 2004,
    doi:10.1023/B:JMIV.0000011325.36760.1e). Not differentiable.

    Args:
        field_vox: ``(1, d, *shape)``.
        weight: Weight of the total variation, in voxels; 0 changes nothing.
        iterations: Number of iterations; each spreads a vector's influence by one voxel.

    Returns:
        ``(1, d, *shape)``.
    """
    if weight == 0:
        return field_vox
    module = implementation(__name__, field_vox)
    smooth: Tensor = module.total_variation_smooth(field_vox.detach(), weight, _STEP, iterations)
    return smooth
