"""Cost volume of two feature maps."""

from __future__ import annotations

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation


def cost_volume(fixed: Tensor, moved: Tensor, radius: int) -> Tensor:
    """Mean over channels of ``fixed(x) moved(x + o)`` for all offsets o within a radius.

    The correlation layer of a feature pyramid (Sun et al. 2018, arXiv:1709.02371).

    Args:
        fixed: features ``(B, C, *shape)``.
        moved: features ``(B, C, *shape)``; 0 beyond the grid.
        radius: largest offset along each axis, in voxels.

    Returns:
        ``(B, (2 radius + 1)^d, *shape)``, the last axis's offset varying fastest; differentiable
        once in both.
    """
    same = fixed.dtype == moved.dtype
    return implementation(__name__, fixed, moved, when=same).cost_volume(fixed, moved, radius)
