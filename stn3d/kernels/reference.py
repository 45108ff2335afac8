"""The hot loops in plain torch: what is right, and what runs where nothing faster does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def box_sum(image: Tensor, radii: Sequence[int]) -> Tensor:
    """Sums over windows of ``2 r + 1`` voxels along each axis; nothing lies beyond the faces."""
    result: Tensor = _BoxSum.apply(image, tuple(radii))
    return result


class _BoxSum(torch.autograd.Function):
    """Separable box sums by shifted additions; its own adjoint."""

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


def gaussian_smooth(image: Tensor, sigma_vox: Sequence[float]) -> Tensor:
    """Convolve ``(B, C, *shape)`` with a Gaussian along each axis, cut off at three sigmas.

    Beyond the faces the outer voxels go on. A sigma below 0.1 voxel leaves its axis alone. Carries
    no gradient.
    """
    with torch.no_grad():
        for axis, sigma in enumerate(sigma_vox, start=2):
            if sigma >= 0.1 and image.shape[axis] > 1:
                image = _smooth_axis(image, axis, sigma)
    return image


def _smooth_axis(image: Tensor, axis: int, sigma: float) -> Tensor:
    n = image.shape[axis]
    radius = max(1, math.ceil(3 * sigma))
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    first, last = image.narrow(axis, 0, 1), image.narrow(axis, n - 1, 1)
    result = image * (weights[0] / total)
    for k in range(1, radius + 1):
        w = weights[k] / total
        inner = max(n - k, 0)
        if inner:
            result.narrow(axis, k, inner).add_(image.narrow(axis, 0, inner), alpha=w)
            result.narrow(axis, 0, inner).add_(image.narrow(axis, n - inner, inner), alpha=w)
        result.narrow(axis, 0, n - inner).add_(first, alpha=w)
        result.narrow(axis, inner, n - inner).add_(last, alpha=w)
    return result
