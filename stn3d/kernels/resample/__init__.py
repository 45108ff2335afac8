"""Reading an image at the voxels of a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.kernels import dispatch, reference
from stn3d.kernels.reference import Moves
from stn3d.kernels.sampling import sample_linear


def resample(
    image: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    moves: Moves | None = None,
    outside_value: float = 0.0,
) -> Tensor:
    """Read an image at the voxels x of a grid: ``image(matrix x + moves(x))``, as `sample_linear`.

    Args:
        image: ``(1, C, *own)``.
        matrix: ``(d + 1, d + 1)`` homogeneous, the image's indices from the wanted grid's indices.
        shape: of the wanted grid.
        moves: a field that moves the points, on the image's device.
        outside_value: what lies beyond the image's outer faces.

    Returns:
        ``(1, C, *shape)``; differentiable once in image, matrix and the field's vectors.
    """
    shift = reference.whole_shift(matrix, shape) if moves is None else None
    if shift is not None and all(map(_meets, shift, shape, image.shape[2:])):
        ends = [(-a, a + n - m) for a, n, m in zip(shift, shape, image.shape[2:], strict=True)]
        return F.pad(image, [p for pair in reversed(ends) for p in pair], value=outside_value)
    inputs = [image, matrix] if moves is None else [image, matrix, *moves]
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    if dispatch.fused(image, None if moves is None else moves.vectors) and not wanted:
        from stn3d.kernels import cpu

        return cpu.resample(image, matrix, shape, moves, outside_value)
    return reference.resample(image, matrix, shape, moves, outside_value, sample_linear)


def _meets(shift: int, count: int, own: int) -> bool:
    """Whether a run of voxels shares any with an image's own."""
    return -count < shift < own
