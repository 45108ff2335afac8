"""Discrete search: the cost of every candidate displacement, and the best candidate per voxel."""

from __future__ import annotations

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation


def displacement_cost(
    fixed: Tensor, moved: Tensor, weight: Tensor, offsets: Tensor, radius: int
) -> Tensor:
    """Weighted mean squared difference of two feature maps for every candidate displacement.

    ``weight(y) mean_c (fixed_c(y) - moved_c(y + o))^2``, averaged over the voxels y of the window
    around each voxel that lie on the grid. The moved features are extended by their outermost
    voxels. Not differentiable.

    Args:
        fixed: ``(1, C, *shape)``.
        moved: ``(1, C, *shape)``.
        weight: ``(1, 1, *shape)``, weights of the fixed voxels.
        offsets: ``(N, d)`` int64, the candidates in voxels.
        radius: Half the width of the window along each axis.

    Returns:
        ``(1, N, *shape)``.
    """
    module = implementation(__name__, fixed, moved, weight, when=fixed.dtype == moved.dtype)
    cost: Tensor = module.displacement_cost(
        fixed.detach(), moved.detach(), weight.detach().to(fixed), offsets, radius
    )
    return cost


def cheapest_displacement(
    cost: Tensor, offsets: Tensor, field_vox: Tensor, coupling: float
) -> Tensor:
    """The candidate o of lowest ``cost + coupling |o - u|^2`` at each voxel, for a field u.

    One half of the coupled convex optimisation of Steinbruecker et al. 2009
    (doi:10.1109/ICCV.2009.5459364), as Heinrich et al. 2014 (doi:10.1007/978-3-319-10404-1_31)
    apply it to registration; the other half smooths the field. Of equal candidates the first one
    wins.

    Args:
        cost: ``(1, N, *shape)``.
        offsets: ``(N, d)`` int64, the candidates in voxels.
        field_vox: ``(1, d, *shape)``.
        coupling: Weight of the squared distance from the field, per squared voxel.

    Returns:
        ``(1, d, *shape)``, whole voxels.
    """
    module = implementation(__name__, cost, field_vox, when=cost.dtype == field_vox.dtype)
    found: Tensor = module.cheapest_displacement(cost, offsets, field_vox, coupling)
    return found
