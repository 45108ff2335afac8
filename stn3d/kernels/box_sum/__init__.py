"""Sums over windows (box filter)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation


def box_sum(image: Tensor, radii: Sequence[int]) -> Tensor:
    """Sums over windows of ``2 r + 1`` voxels along each axis, zero beyond the image.

    Args:
        image: ``(B, C, *shape)``.
        radii: half the window's width along each axis, in voxels.

    Returns:
        ``(B, C, *shape)``; differentiable.
    """
    return implementation(__name__, image).box_sum(image, tuple(radii))
