"""Joint histogram of two images, with gradients with respect to moved image and weights.

A box window for the fixed image, a cubic B-spline for the moved one. Intensities from 0 to 1 map
to bins 1 to ``bins - 2`` of the moved image, so that the four bins of a window always exist. Images
are flat, ``(N,)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import Array

PARTS = 32  # parts of an image's voxels, each with its own histogram


@kernel
def _place(fixed: Any, moved: Any, bins: Any) -> Any:
    """The fixed bin, the first of the four moved bins, and the position after the second one."""
    real = type(moved)
    row = int(min(max(real(0), fixed) * real(bins), real(bins - 1)))
    at = real(1) + min(max(real(0), moved), real(1)) * real(bins - 3)
    second = min(int(at), bins - 3)
    return row, second - 1, at - real(second)


@kernel
def histogram_parts(
    first: int, last: int, fixed: Any, moved: Any, weight: Any, tables: Any
) -> None:
    """The histograms ``tables`` ``(S, bins, bins)``, zero on entry, of S parts of the voxels."""
    parts, bins, n = tables.shape[0], tables.shape[1], len(moved)
    for number in range(first, last):
        table = tables[number]
        for k in range(n * number // parts, n * (number + 1) // parts):
            row, column, t = _place(fixed[k], moved[k], bins)
            w, s = weight[k], 1 - t
            line = table[row]
            line[column] += w * s * s * s / 6
            line[column + 1] += w * (2 / 3 - t * t * (1 - t / 2))
            line[column + 2] += w * (2 / 3 - s * s * (1 - s / 2))
            line[column + 3] += w * t * t * t / 6


@kernel
def gradient_parts(
    first: int,
    last: int,
    parts: Any,
    fixed: Any,
    moved: Any,
    weight: Any,
    gradient: Any,
    to_moved: Any,
    to_weight: Any,
) -> None:
    """Gradients by moved and weight, from the one by the histogram ``(bins, bins)``."""
    bins, n = gradient.shape[0], len(moved)
    for k in range(n * first // parts, n * last // parts):
        m = moved[k]
        row, column, t = _place(fixed[k], m, bins)
        s = 1 - t
        line = gradient[row]
        a, b, c, d = line[column], line[column + 1], line[column + 2], line[column + 3]
        outer = a * s * s * s + d * t * t * t
        to_weight[k] = (
            outer / 6 + b * (2 / 3 - t * t * (1 - t / 2)) + c * (2 / 3 - s * s * (1 - s / 2))
        )
        derivative = (d * t * t - a * s * s) / 2 - b * t * (2 - 1.5 * t) + c * s * (2 - 1.5 * s)
        to_moved[k] = weight[k] * (bins - 3) * derivative if m >= 0 and m <= 1 else 0


def joint_histogram(fixed: Tensor, moved: Tensor, weight: Tensor, bins: int) -> Tensor:
    """Add the histograms of all parts; differentiable once in moved and weight."""
    return _JointHistogram.apply(fixed.to(moved), moved, weight, bins)


class _JointHistogram(torch.autograd.Function):
    """The histogram with its gradients with respect to moved and weight."""

    @staticmethod
    def forward(ctx: Any, fixed: Tensor, moved: Tensor, weight: Tensor, bins: int) -> Tensor:
        ctx.save_for_backward(fixed, moved, weight)
        return _histogram(fixed, moved, weight, bins)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        fixed, moved, weight = ctx.saved_tensors
        return None, *_gradients(fixed, moved, weight, gradient), None


def _histogram(fixed: Tensor, moved: Tensor, weight: Tensor, bins: int) -> Tensor:
    joint = moved.new_empty(*moved.shape[:2], bins, bins)
    for b, c in np.ndindex(*moved.shape[:2]):
        tables = np.zeros((PARTS, bins, bins))
        run(histogram_parts, PARTS, *_lines(b, c, fixed, moved, weight), tables)
        joint[b, c] = torch.from_numpy(tables.sum(axis=0))
    return joint


def _lines(b: int, c: int, *images: Tensor) -> list[Array]:
    """One channel of each image, flat; the weight has only one."""
    return [
        image.detach()[b, min(c, image.shape[1] - 1)].contiguous().flatten().numpy()
        for image in images
    ]


def _gradients(
    fixed: Tensor, moved: Tensor, weight: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients by moved and weight, from the one by the histogram ``(B, C, bins, bins)``."""
    gradients = moved.new_empty(2, *moved.shape)
    for b, c in np.ndindex(*moved.shape[:2]):
        lines, (by_bin,) = _lines(b, c, fixed, moved, weight), _lines(b, c, gradient.to(moved))
        both = gradients[:, b, c].flatten(1).numpy()
        run(gradient_parts, PARTS, PARTS, *lines, by_bin.reshape(gradient.shape[-2:]), *both)
    return gradients[0], gradients[1].sum_to_size(weight.shape)
