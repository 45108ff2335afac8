"""Separable Gaussian smoothing and diffusion of a field's divergence, plane by plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.region import Region
from stn3d.kernels.common.tensors import as_field, runs_of, three_axes, volumes
from stn3d.kernels.smooth.reference import gaussian_weights


@kernel
def _scale(source: Any, weight: Any, out: Any) -> None:
    """``out = weight source``."""
    for k in range(len(out)):
        out[k] = weight * source[k]


@kernel
def _add_scaled(low: Any, high: Any, weight: Any, out: Any) -> None:
    """``out += weight (low + high)``."""
    for k in range(len(out)):
        out[k] += weight * (low[k] + high[k])


@kernel
def _rows_in_use(runs: Any) -> Any:
    """First row of a plane with a non-empty run ``(J, 2)``, and one past the last such row."""
    top, bottom = len(runs), 0
    for j in range(len(runs)):
        if runs[j, 1] > runs[j, 0]:
            top, bottom = min(top, j), j + 1
    return top, bottom


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

    ``weights[t]`` applies to both voxels at distance t. The image is extended by its outermost
    voxels. The rows of a plane are processed as one long row: many short rows would take longer
    than the voxels outside the runs.
    """
    channels, ni, nj, nk = volumes.shape
    rj, rk = len(weights_j) - 1, len(weights_k) - 1
    wide = nk + 2 * rk
    along_i = np.empty((nj + 2 * rj, nk), volumes.dtype)
    along_j, framed = np.empty((nj, nk), volumes.dtype), np.empty((nj, wide), volumes.dtype)
    along_k = np.empty((nj, wide), volumes.dtype)
    for i in range(first, last):
        top, bottom = _rows_in_use(runs[i])
        low, high = max(top - rj, 0), min(bottom + rj, nj)
        for c in range(channels if bottom > top else 0):
            rows = along_i[low + rj : high + rj].ravel()
            _scale(volumes[c, i, low:high].ravel(), weights_i[0], rows)
            for t in range(1, len(weights_i)):
                below, above = volumes[c, max(i - t, 0)], volumes[c, min(i + t, ni - 1)]
                _add_scaled(below[low:high].ravel(), above[low:high].ravel(), weights_i[t], rows)
            for t in range(rj):
                if low == 0:
                    along_i[t] = along_i[rj]
                if high == nj:
                    along_i[nj + rj + t] = along_i[nj + rj - 1]
            rows = along_j[top:bottom].ravel()
            _scale(along_i[top + rj : bottom + rj].ravel(), weights_j[0], rows)
            for t in range(1, rj + 1):
                below = along_i[top + rj - t : bottom + rj - t]
                above = along_i[top + rj + t : bottom + rj + t]
                _add_scaled(below.ravel(), above.ravel(), weights_j[t], rows)
            for j in range(top, bottom):
                framed[j, :rk] = along_j[j, 0]
                framed[j, rk : rk + nk] = along_j[j]
                framed[j, rk + nk :] = along_j[j, nk - 1]
            line = framed[top:bottom].ravel()
            # Values between two rows are not used.
            rows = along_k[top:bottom].ravel()[: len(line) - 2 * rk]
            _scale(line[rk : len(line) - rk], weights_k[0], rows)
            for t in range(1, rk + 1):
                below = line[rk - t : len(line) - rk - t]
                _add_scaled(below, line[rk + t : len(line) - rk + t], weights_k[t], rows)
            for j in range(top, bottom):
                a, b = runs[i, j, 0], runs[i, j, 1]
                if b > a:
                    out[c, i, j, a:b] = along_k[j, a:b]


@kernel
def _add_second(middle: Any, low: Any, high: Any, weight: Any, out: Any) -> None:
    """Add a weighted second difference."""
    for k in range(len(out)):
        out[k] += weight * (low[k] - 2 * middle[k] + high[k])


@kernel
def _add_cross(pp: Any, pm: Any, mp: Any, mm: Any, weight: Any, out: Any) -> None:
    """Add a weighted mixed second difference of the four diagonal neighbours in two axes."""
    for k in range(len(out)):
        out[k] += weight * ((pp[k] - pm[k]) - (mp[k] - mm[k]))


@kernel
def _add_cross_k(plus: Any, minus: Any, a: Any, b: Any, weight: Any, out: Any) -> None:
    """`_add_cross` with the last axis, for voxels ``a`` up to ``b`` of two rows."""
    ahead, behind = slice(a + 1, b + 1), slice(a - 1, b - 1)
    _add_cross(plus[ahead], plus[behind], minus[ahead], minus[behind], weight, out)


@kernel
def diffuse_divergence_planes(
    first: int, last: int, field: Any, weights: Any, runs: Any, out: Any
) -> None:
    """``u + w grad div u`` of a field ``(3, I, J, K)`` at the voxels of runs.

    ``weights`` ``(3,)`` has one element per component. The field is extended by its outermost
    voxels; runs must not contain the outermost voxels of a row.
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
                    _add_second(here, x[im, j, a:b], x[ip, j, a:b], w, row)
                    _add_cross(
                        y[ip, jp, a:b], y[ip, jm, a:b], y[im, jp, a:b], y[im, jm, a:b], v, row
                    )
                    _add_cross_k(z[ip, j], z[im, j], a, b, v, row)
                elif c == 1:
                    _add_second(here, y[i, jm, a:b], y[i, jp, a:b], w, row)
                    _add_cross(
                        x[ip, jp, a:b], x[ip, jm, a:b], x[im, jp, a:b], x[im, jm, a:b], v, row
                    )
                    _add_cross_k(z[i, jp], z[i, jm], a, b, v, row)
                else:
                    _add_second(here, z[i, j, a - 1 : b - 1], z[i, j, a + 1 : b + 1], w, row)
                    _add_cross_k(x[ip, j], x[im, j], a, b, v, row)
                    _add_cross_k(y[i, jp], y[i, jm], a, b, v, row)


def gaussian_smooth(
    image: Tensor,
    sigma_vox: Sequence[float],
    region: Region | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Convolve at the voxels of the region."""
    out = torch.empty_like(image, memory_format=torch.contiguous_format) if out is None else out
    source = volumes(image)
    weights = [
        np.array(gaussian_weights(sigma, n), source.dtype)
        for sigma, n in zip(three_axes(sigma_vox, 0.0), source.shape[1:], strict=True)
    ]
    runs = runs_of(region, source)
    work = runs.lengths.sum(axis=1)
    run(smooth_planes, len(work), source, *weights, runs.runs, volumes(out), work=work)
    return out


def diffuse_divergence(
    field_vox: Tensor, weights: Sequence[float], region: Region, out: Tensor
) -> Tensor:
    """Differences at the voxels of the region."""
    source, result = as_field(field_vox[0]), as_field(out[0])
    along = np.array(three_axes(weights, 0.0), source.dtype)
    work = region.lengths.sum(axis=1)
    run(diffuse_divergence_planes, len(work), source, along, region.runs, result, work=work)
    if field_vox.shape[1] == 2:
        out[0].copy_(torch.from_numpy(result[1:, 0]))
    return out
