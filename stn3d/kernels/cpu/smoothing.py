"""Separable Gaussian smoothing, all axes in one pass over the planes."""

from __future__ import annotations

from typing import Any

import numpy as np

from stn3d.kernels.cpu.jit import kernel


@kernel
def smooth_planes(
    first: int, last: int, volumes: Any, weights_i: Any, weights_j: Any, weights_k: Any, out: Any
) -> None:
    """Convolve ``(C, I, J, K)`` along each axis; plane number is ``c I + i``.

    ``weights[t]`` serves both voxels at distance t. Beyond the faces the outer voxels go on.
    """
    _, ni, nj, nk = volumes.shape
    rj, rk = len(weights_j) - 1, len(weights_k) - 1
    padded = np.empty((nj + 2 * rj, nk), volumes.dtype)
    line = np.empty(nk + 2 * rk, volumes.dtype)
    for number in range(first, last):
        c, i = number // ni, number % ni
        for j in range(nj):
            row, here = padded[j + rj], volumes[c, i, j]
            for k in range(nk):
                row[k] = weights_i[0] * here[k]
            for t in range(1, len(weights_i)):
                w = weights_i[t]
                low, high = volumes[c, max(i - t, 0), j], volumes[c, min(i + t, ni - 1), j]
                for k in range(nk):
                    row[k] += w * (low[k] + high[k])
        for t in range(rj):
            padded[t] = padded[rj]
            padded[nj + rj + t] = padded[nj + rj - 1]
        for j in range(nj):
            middle, here = line[rk : rk + nk], padded[j + rj]
            for k in range(nk):
                middle[k] = weights_j[0] * here[k]
            for t in range(1, rj + 1):
                w = weights_j[t]
                low, high = padded[j + rj - t], padded[j + rj + t]
                for k in range(nk):
                    middle[k] += w * (low[k] + high[k])
            for t in range(rk):
                line[t] = line[rk]
                line[nk + rk + t] = line[nk + rk - 1]
            result = out[c, i, j]
            for k in range(nk):
                result[k] = weights_k[0] * middle[k]
            for t in range(1, rk + 1):
                w = weights_k[t]
                low, high = line[rk - t : rk - t + nk], line[rk + t : rk + t + nk]
                for k in range(nk):
                    result[k] += w * (low[k] + high[k])
