"""Separable Gaussian smoothing, all axes in one pass over the planes."""

from __future__ import annotations

from typing import Any

import numpy as np

from stn3d.kernels.cpu.jit import kernel


@kernel
def _blend(low: Any, high: Any, weight: Any, out: Any) -> None:
    for k in range(len(out)):
        out[k] += weight * (low[k] + high[k])


@kernel
def _scaled(row: Any, weight: Any, out: Any) -> None:
    for k in range(len(out)):
        out[k] = weight * row[k]


@kernel
def smooth_planes(
    first: int,
    last: int,
    volumes: Any,
    weights_i: Any,
    weights_j: Any,
    weights_k: Any,
    runs: Any,
    out: Any,
) -> None:
    """Convolve volumes ``(C, I, J, K)`` along each axis, at the voxels of runs ``(I, J, 2)``.

    ``weights[t]`` serves both voxels at distance t. Beyond the faces the outer voxels go on.
    """
    channels, ni, nj, nk = volumes.shape
    rj, rk = len(weights_j) - 1, len(weights_k) - 1
    padded, line = np.empty((nj + 2 * rj, nk), volumes.dtype), np.empty(nk + 2 * rk, volumes.dtype)
    for i in range(first, last):
        # The plane's part that its runs look at: rows from ``top`` up to ``bottom``, from k0 to k1.
        top, bottom, k0, k1 = nj, 0, nk, 0
        for j in range(nj):
            if runs[i, j, 1] > runs[i, j, 0]:
                top, bottom = min(top, j), j + 1
                k0, k1 = min(k0, runs[i, j, 0]), max(k1, runs[i, j, 1])
        k0, k1 = max(k0 - rk, 0), min(k1 + rk, nk)
        for c in range(channels if bottom > top else 0):
            for j in range(max(top - rj, 0), min(bottom + rj, nj)):
                row = padded[j + rj, k0:k1]
                _scaled(volumes[c, i, j, k0:k1], weights_i[0], row)
                for t in range(1, len(weights_i)):
                    low, high = volumes[c, max(i - t, 0), j], volumes[c, min(i + t, ni - 1), j]
                    _blend(low[k0:k1], high[k0:k1], weights_i[t], row)
            for t in range(rj):
                padded[t, k0:k1] = padded[rj, k0:k1]
                padded[nj + rj + t, k0:k1] = padded[nj + rj - 1, k0:k1]
            for j in range(top, bottom):
                start, end = runs[i, j, 0], runs[i, j, 1]
                if end <= start:
                    continue
                a, b = max(start - rk, 0), min(end + rk, nk)
                middle = line[a + rk : b + rk]
                _scaled(padded[j + rj, a:b], weights_j[0], middle)
                for t in range(1, rj + 1):
                    _blend(padded[j + rj - t, a:b], padded[j + rj + t, a:b], weights_j[t], middle)
                for t in range(rk):
                    line[t] = line[rk]
                    line[nk + rk + t] = line[nk + rk - 1]
                result = out[c, i, j, start:end]
                _scaled(line[start + rk : end + rk], weights_k[0], result)
                for t in range(1, rk + 1):
                    low = line[start + rk - t : end + rk - t]
                    high = line[start + rk + t : end + rk + t]
                    _blend(low, high, weights_k[t], result)


@kernel
def _bend(middle: Any, low: Any, high: Any, weight: Any, out: Any) -> None:
    """Add a weighed second difference."""
    for k in range(len(out)):
        out[k] += weight * (low[k] - 2 * middle[k] + high[k])


@kernel
def _twist(pp: Any, pm: Any, mp: Any, mm: Any, weight: Any, out: Any) -> None:
    """Add a weighed mixed difference, of the four neighbours across two axes."""
    for k in range(len(out)):
        out[k] += weight * ((pp[k] - pm[k]) - (mp[k] - mm[k]))


@kernel
def diffuse_divergence_planes(
    first: int, last: int, field: Any, weights: Any, runs: Any, out: Any
) -> None:
    """``u + w grad div u`` of a field ``(3, I, J, K)`` at the voxels of runs, by voxel differences.

    ``weights`` ``(3,)`` are one a component. Beyond the faces the outer voxels go on; runs must not
    hold the outermost voxels of a row.
    """
    _, ni, nj, _ = field.shape
    x, y, z = field[0], field[1], field[2]
    quarter = field.dtype.type(0.25)
    for i in range(first, last):
        im, ip = max(i - 1, 0), min(i + 1, ni - 1)
        for j in range(nj):
            a, b = runs[i, j, 0], runs[i, j, 1]
            if b <= a:
                continue
            jm, jp = max(j - 1, 0), min(j + 1, nj - 1)
            for c in range(3):
                here, row = field[c, i, j, a:b], out[c, i, j, a:b]
                for k in range(len(row)):
                    row[k] = here[k]
                w = weights[c]
                v = quarter * w
                if c == 0:
                    _bend(here, x[im, j, a:b], x[ip, j, a:b], w, row)
                    _twist(y[ip, jp, a:b], y[ip, jm, a:b], y[im, jp, a:b], y[im, jm, a:b], v, row)
                    p, m = z[ip, j], z[im, j]
                    _twist(
                        p[a + 1 : b + 1],
                        p[a - 1 : b - 1],
                        m[a + 1 : b + 1],
                        m[a - 1 : b - 1],
                        v,
                        row,
                    )
                elif c == 1:
                    _bend(here, y[i, jm, a:b], y[i, jp, a:b], w, row)
                    _twist(x[ip, jp, a:b], x[ip, jm, a:b], x[im, jp, a:b], x[im, jm, a:b], v, row)
                    p, m = z[i, jp], z[i, jm]
                    _twist(
                        p[a + 1 : b + 1],
                        p[a - 1 : b - 1],
                        m[a + 1 : b + 1],
                        m[a - 1 : b - 1],
                        v,
                        row,
                    )
                else:
                    _bend(here, z[i, j, a - 1 : b - 1], z[i, j, a + 1 : b + 1], w, row)
                    p, m = x[ip, j], x[im, j]
                    _twist(
                        p[a + 1 : b + 1],
                        p[a - 1 : b - 1],
                        m[a + 1 : b + 1],
                        m[a - 1 : b - 1],
                        v,
                        row,
                    )
                    p, m = y[i, jp], y[i, jm]
                    _twist(
                        p[a + 1 : b + 1],
                        p[a - 1 : b - 1],
                        m[a + 1 : b + 1],
                        m[a - 1 : b - 1],
                        v,
                        row,
                    )


@kernel
def taper_planes(
    first: int,
    last: int,
    field: Any,
    weights_i: Any,
    weights_j: Any,
    weights_k: Any,
    runs: Any,
    stride: int,
    lengths: Any,
) -> None:
    """Weigh the vectors of a field ``(3, I, J, K)`` at the voxels of runs, by a weight an axis.

    ``lengths`` ``(I', J', K)`` become those in every ``stride``-th row of every such plane.
    """
    x, y, z = field[0], field[1], field[2]
    for i in range(first, last):
        for j in range(x.shape[1]):
            if runs[i, j, 1] <= runs[i, j, 0]:
                continue
            a, b = np.uint64(runs[i, j, 0]), np.uint64(runs[i, j, 1])
            both = weights_i[i] * weights_j[j]
            for k in range(a, b):
                x[i, j, k] *= both * weights_k[k]
                y[i, j, k] *= both * weights_k[k]
                z[i, j, k] *= both * weights_k[k]
            if i % stride == 0 and j % stride == 0:
                row = lengths[i // stride, j // stride]
                for k in range(a, b):
                    dx, dy, dz = x[i, j, k], y[i, j, k], z[i, j, k]
                    row[k] = np.sqrt(dx * dx + dy * dy + dz * dz)
