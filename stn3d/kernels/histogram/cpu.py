"""The joint histogram of two images and its derivative by the moved one.

Mattes et al. 2003, doi:10.1109/TMI.2003.809072: a box window on the fixed image, a cubic B-spline
on the moved one. Intensities from 0 to 1 lie on bins 1 to ``bins - 2`` of the moved image, so that
the four bins of a window are always there. Images are flat, ``(N,)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.cpu.jit import kernel, run
from stn3d.kernels.cpu.tensors import Array

SHARES = 32  # of an image's voxels: each has a histogram of its own


@kernel
def _place(fixed: Any, moved: Any, bins: Any) -> Any:
    """The fixed bin, the first of the four moved bins, and how far past the second it lies."""
    real = type(moved)
    row = int(min(max(real(0), fixed) * real(bins), real(bins - 1)))
    at = real(1) + min(max(real(0), moved), real(1)) * real(bins - 3)
    second = min(int(at), bins - 3)
    return row, second - 1, at - real(second)


@kernel
def histogram_shares(
    first: int, last: int, fixed: Any, moved: Any, weight: Any, tables: Any
) -> None:
    """The histograms ``tables`` ``(S, bins, bins)``, zero on entry, of S shares of the voxels."""
    shares, bins, n = tables.shape[0], tables.shape[1], len(moved)
    for number in range(first, last):
        table = tables[number]
        for k in range(n * number // shares, n * (number + 1) // shares):
            row, column, t = _place(fixed[k], moved[k], bins)
            w, s = weight[k], 1 - t
            line = table[row]
            line[column] += w * s * s * s / 6
            line[column + 1] += w * (2 / 3 - t * t * (1 - t / 2))
            line[column + 2] += w * (2 / 3 - s * s * (1 - s / 2))
            line[column + 3] += w * t * t * t / 6


@kernel
def slope_shares(
    first: int,
    last: int,
    shares: Any,
    fixed: Any,
    moved: Any,
    weight: Any,
    gradient: Any,
    to_moved: Any,
    to_weight: Any,
) -> None:
    """Derivatives by moved and weight from those by the histogram, ``(bins, bins)``."""
    bins, n = gradient.shape[0], len(moved)
    for k in range(n * first // shares, n * last // shares):
        m = moved[k]
        row, column, t = _place(fixed[k], m, bins)
        s = 1 - t
        line = gradient[row]
        a, b, c, d = line[column], line[column + 1], line[column + 2], line[column + 3]
        outer = a * s * s * s + d * t * t * t
        to_weight[k] = (
            outer / 6 + b * (2 / 3 - t * t * (1 - t / 2)) + c * (2 / 3 - s * s * (1 - s / 2))
        )
        slope = (d * t * t - a * s * s) / 2 - b * t * (2 - 1.5 * t) + c * s * (2 - 1.5 * s)
        to_moved[k] = weight[k] * (bins - 3) * slope if m >= 0 and m <= 1 else 0


# -- on tensors ------------------------------------------------------------------------------------


def joint_histogram(fixed: Tensor, moved: Tensor, weight: Tensor, bins: int) -> Tensor:
    """How much weight each pair of intensities has. See `stn3d.kernels`."""
    joint = moved.new_empty(*moved.shape[:2], bins, bins)
    for b, c in np.ndindex(*moved.shape[:2]):
        tables = np.zeros((SHARES, bins, bins))
        run(histogram_shares, SHARES, *_lines(b, c, fixed, moved, weight), tables)
        joint[b, c] = torch.from_numpy(tables.sum(axis=0))
    return joint


def _lines(b: int, c: int, *images: Tensor) -> list[Array]:
    """One channel of each image, flat; the weight has but one."""
    return [
        image.detach()[b, min(c, image.shape[1] - 1)].contiguous().flatten().numpy()
        for image in images
    ]


def histogram_slopes(
    fixed: Tensor, moved: Tensor, weight: Tensor, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """Derivatives by moved and weight from those by the histogram ``(B, C, bins, bins)``."""
    slopes = moved.new_empty(2, *moved.shape)
    for b, c in np.ndindex(*moved.shape[:2]):
        lines, (by_bin,) = _lines(b, c, fixed, moved, weight), _lines(b, c, gradient.to(moved))
        both = slopes[:, b, c].flatten(1).numpy()
        run(slope_shares, SHARES, SHARES, *lines, by_bin.reshape(gradient.shape[-2:]), *both)
    return slopes[0], slopes[1].sum_to_size(weight.shape)
