"""Reading an image at any points."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stn3d.kernels import dispatch, reference


def sample_linear(image: Tensor, points_index: Tensor) -> Tensor:
    """Read an image between its voxels: linear, constant in the outer half voxel, 0 beyond.

    Args:
        image: ``(B, C, *shape)``.
        points_index: ``(B, N, d)``; a batch of one on either side serves all of the other.

    Returns:
        ``(B, C, N)``; differentiable once in both.
    """
    if dispatch.fused(image, points_index):
        result: Tensor = _SampleLinear.apply(image, points_index)
        return result
    return reference.sample_linear(image, points_index)


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
