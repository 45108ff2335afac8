"""Separable Gaussian smoothing, smoothing of how a field grows and shrinks, and fading out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.cpu.jit import kernel, run
from stn3d.kernels.cpu.tensors import as_field, runs_of, three, volumes
from stn3d.kernels.reference import gaussian_weights, length_quantile, length_stride
from stn3d.kernels.region import Region


@kernel
def _scaled(source: Any, weight: Any, out: Any) -> None:
    for k in range(len(out)):
        out[k] = weight * source[k]


@kernel
def _blend(low: Any, high: Any, weight: Any, out: Any) -> None:
    for k in range(len(out)):
        out[k] += weight * (low[k] + high[k])


@kernel
def _rows_in_use(runs: Any) -> Any:
    """The first row of a plane with a run ``(J, 2)`` that is not empty, and the end of the last."""
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

    ``weights[t]`` serves both voxels at distance t. Beyond the faces the outer voxels go on. The
    rows of a plane are worked on as one long row: many short loops would cost more than the voxels
    outside of the runs.
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
            _scaled(volumes[c, i, low:high].ravel(), weights_i[0], rows)
            for t in range(1, len(weights_i)):
                below, above = volumes[c, max(i - t, 0)], volumes[c, min(i + t, ni - 1)]
                _blend(below[low:high].ravel(), above[low:high].ravel(), weights_i[t], rows)
            for t in range(rj):
                if low == 0:
                    along_i[t] = along_i[rj]
                if high == nj:
                    along_i[nj + rj + t] = along_i[nj + rj - 1]
            rows = along_j[top:bottom].ravel()
            _scaled(along_i[top + rj : bottom + rj].ravel(), weights_j[0], rows)
            for t in range(1, rj + 1):
                below = along_i[top + rj - t : bottom + rj - t]
                above = along_i[top + rj + t : bottom + rj + t]
                _blend(below.ravel(), above.ravel(), weights_j[t], rows)
            for j in range(top, bottom):
                framed[j, :rk] = along_j[j, 0]
                framed[j, rk : rk + nk] = along_j[j]
                framed[j, rk + nk :] = along_j[j, nk - 1]
            line = framed[top:bottom].ravel()
            # What falls between two rows is of no use, and is not used.
            rows = along_k[top:bottom].ravel()[: len(line) - 2 * rk]
            _scaled(line[rk : len(line) - rk], weights_k[0], rows)
            for t in range(1, rk + 1):
                below = line[rk - t : len(line) - rk - t]
                _blend(below, line[rk + t : len(line) - rk + t], weights_k[t], rows)
            for j in range(top, bottom):
                a, b = runs[i, j, 0], runs[i, j, 1]
                if b > a:
                    out[c, i, j, a:b] = along_k[j, a:b]


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
def _twist_along(plus: Any, minus: Any, a: Any, b: Any, weight: Any, out: Any) -> None:
    """`_twist` across the last axis, for voxels ``a`` up to ``b`` between two rows."""
    ahead, behind = slice(a + 1, b + 1), slice(a - 1, b - 1)
    _twist(plus[ahead], plus[behind], minus[ahead], minus[behind], weight, out)


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
                    _twist_along(z[ip, j], z[im, j], a, b, v, row)
                elif c == 1:
                    _bend(here, y[i, jm, a:b], y[i, jp, a:b], w, row)
                    _twist(x[ip, jp, a:b], x[ip, jm, a:b], x[im, jp, a:b], x[im, jm, a:b], v, row)
                    _twist_along(z[i, jp], z[i, jm], a, b, v, row)
                else:
                    _bend(here, z[i, j, a - 1 : b - 1], z[i, j, a + 1 : b + 1], w, row)
                    _twist_along(x[ip, j], x[im, j], a, b, v, row)
                    _twist_along(y[i, jp], y[i, jm], a, b, v, row)


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


# -- on tensors ------------------------------------------------------------------------------------


def gaussian_smooth(
    image: Tensor,
    sigma_vox: Sequence[float],
    region: Region | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Convolve with a Gaussian along each axis. See `stn3d.kernels`."""
    out = torch.empty_like(image, memory_format=torch.contiguous_format) if out is None else out
    source = volumes(image)
    weights = [
        np.array(gaussian_weights(sigma, n), source.dtype)
        for sigma, n in zip(three(sigma_vox, 0.0), source.shape[1:], strict=True)
    ]
    runs = runs_of(region, source)
    work = runs.lengths.sum(axis=1)
    run(smooth_planes, len(work), source, *weights, runs.runs, volumes(out), work=work)
    return out


def diffuse_divergence(
    field_vox: Tensor, weights: Sequence[float], region: Region, out: Tensor
) -> Tensor:
    """Add a weighed gradient of the divergence. See `stn3d.kernels`."""
    source, result = as_field(field_vox[0]), as_field(out[0])
    along = np.array(three(weights, 0.0), source.dtype)
    work = region.lengths.sum(axis=1)
    run(diffuse_divergence_planes, len(work), source, along, region.runs, result, work=work)
    if field_vox.shape[1] == 2:
        out[0].copy_(torch.from_numpy(result[1:, 0]))
    return out


def taper(
    vectors: Tensor, weights: Sequence[Tensor], region: Region | None, quantile: float
) -> float:
    """Weigh a field's vectors in place; a quantile of their lengths. See `stn3d.kernels`."""
    field = as_field(vectors[0])
    along = [w.to(vectors).numpy() for w in three(weights, torch.ones(1))]
    runs = runs_of(region, field)
    stride = length_stride(field.shape[1:])
    few = np.zeros([-(-n // stride) for n in field.shape[1:3]] + [field.shape[3]], field.dtype)
    work = runs.lengths.sum(axis=1)
    run(taper_planes, len(work), field, *along, runs.runs, stride, few, work=work)
    if vectors.shape[1] == 2:
        vectors[0].copy_(torch.from_numpy(field[1:, 0]))
    return length_quantile(few[few > 0], quantile)
