"""Reading a batch of images through a matrix for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stn3d.kernels import dispatch, reference


def sample_affine(image: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """Read images at ``matrix x`` for the voxels x of a shape, as `sample_linear`.

    Args:
        image: ``(B, C, *own)``.
        matrix: ``(B, d + 1, d + 1)`` homogeneous, the images' indices from the wanted grid's; a
            batch of one on either side serves all of the other.
        shape: of the wanted grid.

    Returns:
        ``(B, C, *shape)``; differentiable once in both.
    """
    if dispatch.fused(image) and matrix.device.type == "cpu":
        result: Tensor = _SampleAffine.apply(image, matrix, tuple(shape))
        return result
    return reference.sample_affine(image, matrix, shape)


class _SampleAffine(torch.autograd.Function):
    """Reading by the CPU's loops."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
        from stn3d.kernels import cpu

        ctx.save_for_backward(image, matrix)
        return cpu.sample_affine(image, matrix, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        from stn3d.kernels import cpu

        image, matrix = ctx.saved_tensors
        by_image, by_matrix, _ = ctx.needs_input_grad
        return *cpu.affine_back(image, matrix, gradient, by_image, by_matrix), None
