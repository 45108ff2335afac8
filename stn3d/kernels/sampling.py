"""Reading an image at any points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from stn3d.kernels import reference
from stn3d.kernels.dispatch import fused
from stn3d.kernels.reference import Moves


def sample_linear(image: Tensor, points_index: Tensor) -> Tensor:
    """Read an image between its voxels: linear, constant in the outer half voxel, 0 beyond.

    Args:
        image: ``(B, C, *shape)``.
        points_index: ``(B, N, d)``; a batch of one on either side serves all of the other.

    Returns:
        ``(B, C, N)``; differentiable once in both.
    """
    if fused(image, points_index):
        result: Tensor = _SampleLinear.apply(image, points_index)
        return result
    return reference.sample_linear(image, points_index)


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
    if shift is not None:
        ends = [(-a, a + n - m) for a, n, m in zip(shift, shape, image.shape[2:], strict=True)]
        return F.pad(image, [p for pair in reversed(ends) for p in pair], value=outside_value)
    inputs = [image, matrix] if moves is None else [image, matrix, *moves]
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    if fused(image, None if moves is None else moves.vectors) and not wanted:
        from stn3d.kernels import cpu

        return cpu.resample(image, matrix, shape, moves, outside_value)
    return reference.resample(image, matrix, shape, moves, outside_value, sample_linear)


class _SampleLinear(torch.autograd.Function):
    """Reading by the CPU's loops."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, points_index: Tensor) -> Tensor:
        from stn3d.kernels import cpu

        ctx.save_for_backward(image, points_index)
        return cpu.sample_linear(image, points_index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        from stn3d.kernels import cpu

        image, points_index = ctx.saved_tensors
        by_image, by_points = ctx.needs_input_grad
        return (
            cpu.sample_adjoint(image, points_index, gradient) if by_image else None,
            cpu.sample_slopes(image, points_index, gradient) if by_points else None,
        )
