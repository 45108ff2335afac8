"""Sums over windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stn3d.kernels import dispatch, reference


def box_sum(image: Tensor, radii: Sequence[int]) -> Tensor:
    """Sums over windows of ``2 r + 1`` voxels along each axis; nothing lies beyond the faces."""
    if dispatch.fused(image):
        result: Tensor = _BoxSum.apply(image, tuple(radii))
        return result
    return reference.box_sum(image, radii)


class _BoxSum(torch.autograd.Function):
    """Box sums by the CPU's loops; its own adjoint."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, radii: tuple[int, ...]) -> Tensor:
        from stn3d.kernels import cpu

        ctx.radii = radii
        return cpu.box_sum(image, radii)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return box_sum(gradients[0], ctx.radii), None
