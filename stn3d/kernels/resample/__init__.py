"""Resampling of an image on another grid, through an optional displacement field."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from stn3d.kernels.common.dispatch import implementation
from stn3d.kernels.resample.shift import whole_shift
from stn3d.kernels.resample.types import Displacement


def resample(
    image: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    displacement: Displacement | None = None,
    outside_value: float = 0.0,
) -> Tensor:
    """Sample an image at ``matrix x + displacement(x)``, interpolated as `sample_linear`.

    Args:
        image: ``(1, C, *own)``.
        matrix: ``(d + 1, d + 1)`` homogeneous, image indices from output indices.
        shape: output shape.
        displacement: displacement of the sampled points, on the image's device.
        outside_value: value beyond the image's domain.

    Returns:
        ``(1, C, *shape)``; differentiable once in image, matrix and the displacement's vectors.
    """
    shift = whole_shift(matrix, shape) if displacement is None else None
    if shift is not None and all(map(_overlaps, shift, shape, image.shape[2:])):
        ends = [(-a, a + n - m) for a, n, m in zip(shift, shape, image.shape[2:], strict=True)]
        return F.pad(image, [p for pair in reversed(ends) for p in pair], value=outside_value)
    vectors = None if displacement is None else displacement.vectors
    return implementation(__name__, image, vectors).resample(
        image, matrix, tuple(shape), displacement, outside_value
    )


def _overlaps(shift: int, count: int, own: int) -> bool:
    """Whether ``count`` voxels from ``shift`` on overlap an axis of ``own`` voxels."""
    return -count < shift < own
