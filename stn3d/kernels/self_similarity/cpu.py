"""Exponents of MIND-SSC, row by row.

Squared differences of rows are summed over the patch's rows, then along the row; the distances of
all pairs are then normalised by their minimum and mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import three_axes
from stn3d.kernels.self_similarity.pairs import neighbour_pairs


@kernel
def exponent_planes(
    first: int, last: int, padded: Any, pairs: Any, radii: Any, reach: Any, noise: Any, out: Any
) -> None:
    """``out`` ``(P, I, J, K)`` for an image padded by ``reach[axis]`` voxels at both ends.

    Args:
        padded: ``(I + 2 reach[0], J + 2 reach[1], K + 2 reach[2])``.
        pairs: ``(P, 2, 3)`` offsets of two neighbours.
        radii: half the patch's width along each axis.
        noise: lower bound of the mean distance.
    """
    count, _, nj, nk = out.shape
    ri, rj, rk = radii
    line = np.zeros(nk + 2 * rk, out.dtype)
    low, total = np.zeros(nk, out.dtype), np.zeros(nk, out.dtype)
    factor = out.dtype.type(1 / count)
    least = out.dtype.type(noise)
    zero, end, wide = np.uint64(0), np.uint64(nk), np.uint64(nk + 2 * rk)
    for i in range(first, last):
        for j in range(nj):
            for p in range(count):
                line[:] = 0
                one = np.uint64(reach[2] - rk + pairs[p, 0, 2])
                other = np.uint64(reach[2] - rk + pairs[p, 1, 2])
                for a in range(i + reach[0] - ri, i + reach[0] + ri + 1):
                    for b in range(j + reach[1] - rj, j + reach[1] + rj + 1):
                        near = padded[a + pairs[p, 0, 0], b + pairs[p, 0, 1]]
                        far = padded[a + pairs[p, 1, 0], b + pairs[p, 1, 1]]
                        for k in range(zero, wide):
                            difference = near[k + one] - far[k + other]
                            line[k] += difference * difference
                row = out[p, i, j]
                for k in range(zero, end):
                    row[k] = line[k]
                for t in range(1, 2 * rk + 1):
                    shift = np.uint64(t)
                    for k in range(zero, end):
                        row[k] += line[k + shift]
                if p == 0:
                    for k in range(zero, end):
                        low[k] = row[k]
                        total[k] = row[k]
                else:
                    for k in range(zero, end):
                        low[k] = min(low[k], row[k])
                        total[k] += row[k]
            for k in range(zero, end):
                total[k] = -1 / max(factor * total[k], least)
            for p in range(count):
                row = out[p, i, j]
                for k in range(zero, end):
                    row[k] = (row[k] - low[k]) * total[k]


def self_similarity(image: Tensor, noise: Tensor, radius: int, dilation: int) -> Tensor:
    """Exponents of each channel; not differentiable."""
    d, reach = image.ndim - 2, radius + dilation
    padded = F.pad(image.detach(), [reach] * 2 * d, mode="replicate").flatten(0, 1)
    offsets = neighbour_pairs(d, dilation)
    pairs = np.array([[three_axes(offset, 0) for offset in pair] for pair in offsets])
    radii, reaches = (tuple(three_axes([n] * d, 0)) for n in (radius, reach))
    out = image.new_empty(*image.shape[:2], len(offsets), *image.shape[2:])
    results = out.flatten(0, 1)
    if d == 2:
        padded, results = padded[:, None], results[:, :, None]
    for one, least, result in zip(padded, noise.flatten().tolist(), results, strict=True):
        arguments = one.numpy(), pairs, radii, reaches, least, result.numpy()
        run(exponent_planes, result.shape[1], *arguments)
    return out
