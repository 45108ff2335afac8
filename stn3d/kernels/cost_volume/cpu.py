"""Cost volume of two feature maps and its gradients, row by row.

Rows of a volume are copied into lines padded by zeros, so that offsets along a row need no bounds
check; all these offsets are processed together. Indices are unsigned, as in
`stn3d.kernels.box_sum.cpu`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import batches, three_axes


@kernel
def product_planes(first: int, last: int, fixed: Any, moved: Any, radii: Any, out: Any) -> None:
    """``out`` ``(O, I, J, K)`` for all O offsets of features ``(C, I, J, K)``."""
    channels, ni, nj, nk = fixed.shape
    ri, rj, rk = radii
    line = np.zeros(nk + 2 * rk, fixed.dtype)
    sums = np.zeros((2 * rk + 1, nk), fixed.dtype)
    factor = fixed.dtype.type(1 / channels)
    zero, end, middle = np.uint64(0), np.uint64(nk), np.uint64(rk)
    for i in range(first, last):
        for j in range(nj):
            offset = 0
            for a in range(i - ri, i + ri + 1):
                for b in range(j - rj, j + rj + 1):
                    sums[:] = 0
                    within = 0 <= a < ni and 0 <= b < nj
                    for c in range(channels if within else 0):
                        for k in range(zero, end):
                            line[k + middle] = moved[c, a, b, k]
                        for t in range(2 * rk + 1):
                            shift = np.uint64(t)
                            for k in range(zero, end):
                                sums[t, k] += fixed[c, i, j, k] * line[k + shift]
                    for t in range(2 * rk + 1):
                        for k in range(zero, end):
                            out[offset, i, j, k] = factor * sums[t, k]
                        offset += 1


@kernel
def gradient_planes(
    first: int, last: int, gradient: Any, other: Any, radii: Any, by_fixed: Any, out: Any
) -> None:
    """``out`` ``(C, I, J, K)``: the gradient by the fixed features, or by the moved ones.

    Args:
        gradient: ``(O, I, J, K)`` gradient with respect to the cost volume.
        other: ``(C, I, J, K)`` the other features.
        by_fixed: whether ``out`` belongs to the fixed features.
    """
    channels, ni, nj, nk = out.shape
    ri, rj, rk = radii
    line = np.zeros(nk + 2 * rk, other.dtype)
    lines = np.zeros((2 * rk + 1, nk + 2 * rk), other.dtype)
    sums = np.zeros((channels, nk), other.dtype)
    factor = other.dtype.type(1 / channels)
    zero, end, middle = np.uint64(0), np.uint64(nk), np.uint64(rk)
    for i in range(first, last):
        for j in range(nj):
            sums[:] = 0
            for a in range(max(i - ri, 0), min(i + ri, ni - 1) + 1):
                for b in range(max(j - rj, 0), min(j + rj, nj - 1) + 1):
                    # Products of fixed at (i, j) and moved at (a, b), or vice versa.
                    di, dj, p, q = (a - i, b - j, i, j) if by_fixed else (i - a, j - b, a, b)
                    offset = ((di + ri) * (2 * rj + 1) + dj + rj) * (2 * rk + 1)
                    for t in range(2 * rk + 1):
                        # For moved features the offsets run in reverse order.
                        o = offset + (t if by_fixed else 2 * rk - t)
                        for k in range(zero, end):
                            lines[t, k + middle] = gradient[o, p, q, k]
                    for c in range(channels):
                        for k in range(zero, end):
                            line[k + middle] = other[c, a, b, k]
                        for t in range(2 * rk + 1):
                            shift = np.uint64(t)
                            own = middle if by_fixed else shift
                            for k in range(zero, end):
                                sums[c, k] += lines[t, k + own] * line[k + shift]
            for c in range(channels):
                for k in range(zero, end):
                    out[c, i, j, k] = factor * sums[c, k]


def cost_volume(fixed: Tensor, moved: Tensor, radius: int) -> Tensor:
    """Products of rows; differentiable once."""
    return _CostVolume.apply(fixed, moved, radius)


class _CostVolume(torch.autograd.Function):
    """The cost volume with its gradients with respect to both feature maps."""

    @staticmethod
    def forward(ctx: Any, fixed: Tensor, moved: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(fixed, moved)
        ctx.radius = radius
        return _products(fixed, moved, radius)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        fixed, moved = ctx.saved_tensors
        return *_gradients(fixed, moved, gradient, ctx.radius), None


def _radii(image: Tensor, radius: int) -> tuple[int, ...]:
    return tuple(three_axes([radius] * (image.ndim - 2), 0))


def _products(fixed: Tensor, moved: Tensor, radius: int) -> Tensor:
    offsets = (2 * radius + 1) ** (fixed.ndim - 2)
    out = fixed.new_empty(len(fixed), offsets, *fixed.shape[2:])
    for one, other, result in zip(batches(fixed), batches(moved), batches(out), strict=True):
        run(product_planes, one.shape[1], one, other, _radii(fixed, radius), result)
    return out


def _gradients(
    fixed: Tensor, moved: Tensor, gradient: Tensor, radius: int
) -> tuple[Tensor, Tensor]:
    """Gradients by fixed and moved features, from the one by the cost volume."""
    by_fixed, by_moved = fixed.new_empty(fixed.shape), moved.new_empty(moved.shape)
    radii = _radii(fixed, radius)
    sources = zip(*(batches(t) for t in (fixed, moved, gradient, by_fixed, by_moved)), strict=True)
    for one, other, upstream, to_fixed, to_moved in sources:
        run(gradient_planes, one.shape[1], upstream, other, radii, True, to_fixed)
        run(gradient_planes, one.shape[1], upstream, one, radii, False, to_moved)
    return by_fixed, by_moved
