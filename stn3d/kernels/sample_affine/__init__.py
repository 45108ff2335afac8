"""Sampling of a batch of images on grids given by one matrix each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation


def sample_affine(image: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """Sample images at ``matrix x`` for the voxels x of a grid, interpolated as `sample_linear`.

    Args:
        image: ``(B, C, *own)``.
        matrix: ``(B, d + 1, d + 1)`` homogeneous, image indices from output indices; a batch of
            one on either side is broadcast.
        shape: output shape.

    Returns:
        ``(B, C, *shape)``; differentiable once in both.
    """
    return implementation(__name__, image, matrix).sample_affine(image, matrix, tuple(shape))
