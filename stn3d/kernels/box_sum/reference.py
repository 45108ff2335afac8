"""Sums over windows by shifted additions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def box_sum(image: Tensor, radii: Sequence[int]) -> Tensor:
    """Separable sums by shifted additions."""
    return _BoxSum.apply(image, tuple(radii))


class _BoxSum(torch.autograd.Function):
    """A sum over windows is its own adjoint."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, radii: tuple[int, ...]) -> Tensor:
        ctx.radii = radii
        for axis, radius in enumerate(radii, start=2):
            n = image.shape[axis]
            total = image.clone()
            for shift in range(1, min(radius, n - 1) + 1):
                total.narrow(axis, shift, n - shift).add_(image.narrow(axis, 0, n - shift))
                total.narrow(axis, 0, n - shift).add_(image.narrow(axis, shift, n - shift))
            image = total
        return image

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return box_sum(gradients[0], ctx.radii), None


def window_sizes(n: int, radius: int, like: Tensor) -> Tensor:
    """Number of voxels in each window along an axis of n voxels; fewer near the faces."""
    i = torch.arange(n, device=like.device)
    return ((i + radius).clamp(max=n - 1) - (i - radius).clamp(min=0) + 1).to(like)
