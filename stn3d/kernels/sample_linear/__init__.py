"""Linear interpolation of an image at arbitrary points."""

from __future__ import annotations

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation


def sample_linear(image: Tensor, points_index: Tensor) -> Tensor:
    """Sample an image at points: linear, constant in the outer half voxel, 0 beyond the domain.

    Args:
        image: ``(B, C, *shape)``.
        points_index: ``(B, N, d)`` index coordinates; a batch of one on either side is broadcast.

    Returns:
        ``(B, C, N)``; differentiable once in both.
    """
    return implementation(__name__, image, points_index).sample_linear(image, points_index)
