"""Discrete search, row by row.

Indices along rows are unsigned, as in `stn3d.kernels.box_sum.cpu`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import batches, three_axes


@kernel
def _distances(fixed: Any, padded: Any, weight: Any, start: Any, out: Any) -> None:
    """``out`` ``(I, J, K)``: weighted mean squared differences from the part that begins at start.

    Args:
        fixed: ``(C, I, J, K)``.
        padded: ``(C, I', J', K')``, at least as large.
        weight: ``(I, J, K)``.
        start: first voxel of the part along each axis.
    """
    channels, ni, nj, nk = fixed.shape
    factor = out.dtype.type(1 / channels)
    zero, end, shift = np.uint64(0), np.uint64(nk), np.uint64(start[2])
    for i in range(ni):
        for j in range(nj):
            row, weights = out[i, j], weight[i, j]
            for k in range(zero, end):
                row[k] = 0
            for c in range(channels):
                one, other = fixed[c, i, j], padded[c, i + start[0], j + start[1]]
                for k in range(zero, end):
                    difference = one[k] - other[k + shift]
                    row[k] += difference * difference
            for k in range(zero, end):
                row[k] *= factor * weights[k]


@kernel
def _window_means(image: Any, radii: Any, out: Any) -> None:
    """``out`` ``(I, J, K)``: means over the part of each window that lies on the grid."""
    ni, nj, nk = image.shape
    ri, rj, rk = radii
    line = np.zeros(nk + 2 * rk, image.dtype)
    zero, end, middle = np.uint64(0), np.uint64(nk), np.uint64(rk)
    for i in range(ni):
        i0, i1 = max(i - ri, 0), min(i + ri + 1, ni)
        for j in range(nj):
            j0, j1 = max(j - rj, 0), min(j + rj + 1, nj)
            for k in range(zero, end):
                line[k + middle] = 0
            for a in range(i0, i1):
                for b in range(j0, j1):
                    row = image[a, b]
                    for k in range(zero, end):
                        line[k + middle] += row[k]
            rows = (i1 - i0) * (j1 - j0)
            row = out[i, j]
            for k in range(zero, end):
                row[k] = line[k]
            for t in range(1, 2 * rk + 1):
                shift = np.uint64(t)
                for k in range(zero, end):
                    row[k] += line[k + shift]
            for k in range(nk):
                row[k] /= rows * (min(k + rk + 1, nk) - max(k - rk, 0))


@kernel
def cost_planes(
    first: int,
    last: int,
    fixed: Any,
    padded: Any,
    weight: Any,
    offsets: Any,
    radii: Any,
    out: Any,
) -> None:
    """``out`` ``(N, I, J, K)`` for the candidates ``first`` up to ``last``.

    Args:
        fixed: ``(C, I, J, K)``.
        padded: ``(C, I', J', K')``, moved features with a margin.
        weight: ``(I, J, K)``.
        offsets: ``(N, 3)`` first voxel of each candidate in the padded features.
        radii: half the window's width along each axis.
    """
    distances = np.empty(weight.shape, out.dtype)
    for n in range(first, last):
        _distances(fixed, padded, weight, offsets[n], distances)
        _window_means(distances, radii, out[n])


@kernel
def cheapest_planes(
    first: int, last: int, cost: Any, offsets: Any, field: Any, coupling: float, out: Any
) -> None:
    """``out`` ``(d, I, J, K)``: the cheapest candidate at each voxel.

    Args:
        cost: ``(N, I, J, K)``.
        offsets: ``(N, d)`` candidates, of the field's type.
        field: ``(d, I, J, K)``.
        coupling: weight of the squared distance from the field.
    """
    count, _, nj, nk = cost.shape
    d = len(field)
    weight = cost.dtype.type(coupling)
    best, total = np.empty(nk, cost.dtype), np.empty(nk, cost.dtype)
    index = np.empty(nk, np.int32)
    zero, end = np.uint64(0), np.uint64(nk)
    for i in range(first, last):
        for j in range(nj):
            for k in range(zero, end):
                best[k] = np.inf
                index[k] = 0
            for n in range(count):
                for k in range(zero, end):
                    total[k] = 0
                for a in range(d):
                    vectors, step = field[a, i, j], offsets[n, a]
                    for k in range(zero, end):
                        away = step - vectors[k]
                        total[k] += away * away
                row = cost[n, i, j]
                for k in range(zero, end):
                    value = row[k] + weight * total[k]
                    index[k] = n if value < best[k] else index[k]
                    best[k] = min(value, best[k])
            for a in range(d):
                for k in range(zero, end):
                    out[a, i, j, k] = offsets[index[k], a]


def displacement_cost(
    fixed: Tensor, moved: Tensor, weight: Tensor, offsets: Tensor, radius: int
) -> Tensor:
    """All candidates, distributed over the threads."""
    d, reach = fixed.ndim - 2, int(offsets.abs().max())
    padded = batches(F.pad(moved, [reach] * 2 * d, mode="replicate"))[0]
    starts = np.zeros((len(offsets), 3), np.int64)
    starts[:, 3 - d :] = offsets.cpu().numpy() + reach
    out = fixed.new_empty(1, len(offsets), *fixed.shape[2:])
    images = batches(fixed)[0], padded, batches(weight)[0, 0]
    radii = tuple(three_axes([radius] * d, 0))
    run(cost_planes, len(offsets), *images, starts, radii, batches(out)[0])
    return out


def cheapest_displacement(
    cost: Tensor, offsets: Tensor, field_vox: Tensor, coupling: float
) -> Tensor:
    """All planes, distributed over the threads."""
    out = field_vox.new_empty(field_vox.shape)
    volume, candidates = batches(cost)[0], offsets.to(field_vox).numpy()
    arguments = volume, candidates, batches(field_vox)[0], coupling, batches(out)[0]
    run(cheapest_planes, volume.shape[1], *arguments)
    return out
