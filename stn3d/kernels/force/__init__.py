"""The image force of deformable registration."""

from __future__ import annotations

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation
from stn3d.kernels.common.region import Region


def force(moved: Tensor, by_moved: Tensor, region: Region, out: Tensor) -> Tensor:
    """``-by_moved grad moved``: steepest descent of a loss over steps s in ``moved(x + s(x))``.

    If moved is ``moving(T(x))``, then ``moved(x + s(x))`` is ``moving(T(x + s(x)))``: the step is
    composed before the current transform. Central differences. Carries no gradient.

    Args:
        moved: ``(1, C, *shape)``, known in the region and one voxel around it.
        by_moved: ``(1, C, *shape)`` gradient of the loss with respect to moved.
        region: voxels to compute, without the grid's outermost voxels.
        out: ``(1, d, *shape)`` result; unchanged outside the region.
    """
    return implementation(__name__, moved, by_moved).force(moved, by_moved, region, out)
