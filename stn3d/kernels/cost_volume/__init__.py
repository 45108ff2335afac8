"""Products of features with those nearby."""

from __future__ import annotations

from typing import Any

from torch import Tensor, autograd
from torch.autograd.function import once_differentiable

from stn3d.kernels import dispatch, reference


def local_products(fixed: Tensor, moved: Tensor, radius: int) -> Tensor:
    """Mean over channels of ``fixed(x) moved(x + o)`` for all offsets o within a radius.

    The local correlation of a feature pyramid (Sun et al. 2018, arXiv:1709.02371).

    Args:
        fixed: features ``(B, C, *shape)``.
        moved: the same; 0 beyond its faces.
        radius: voxels along each axis.

    Returns:
        ``(B, (2 radius + 1)^d, *shape)``, the last axis's offset running fastest; differentiable
        once in both.
    """
    if dispatch.fused(fixed, moved) and fixed.dtype == moved.dtype:
        result: Tensor = _LocalProducts.apply(fixed, moved, radius)
        return result
    return reference.local_products(fixed, moved, radius)


class _LocalProducts(autograd.Function):
    """Products by the CPU's loops."""

    @staticmethod
    def forward(ctx: Any, fixed: Tensor, moved: Tensor, radius: int) -> Tensor:
        from stn3d.kernels import cpu

        ctx.save_for_backward(fixed, moved)
        ctx.radius = radius
        return cpu.local_products(fixed, moved, radius)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        from stn3d.kernels import cpu

        fixed, moved = ctx.saved_tensors
        return *cpu.local_products_adjoint(fixed, moved, gradient, ctx.radius), None
