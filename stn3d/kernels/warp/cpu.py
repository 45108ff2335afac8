"""An image through a matrix and a displacement, and how a loss of it changes.

Fields are ``(3, I, J, K)`` in voxels. Work is done at the voxels of runs ``(I, J, 2)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.cpu.interpolation import locate, read, read_slopes, steps
from stn3d.kernels.cpu.jit import kernel, run
from stn3d.kernels.cpu.tensors import as_field, as_matrix, runs_of, volumes
from stn3d.kernels.reference import Buffers, Warped, buffers
from stn3d.kernels.region import Region


@kernel
def _mapped_row(matrix: Any, displacement: Any, i: Any, j: Any, start: Any, x: Any) -> None:
    """``matrix (x + displacement(x))`` for the voxels of a row from ``start`` on, ``(3, n)``."""
    real = x.dtype.type
    end = start + x.shape[1]
    u0, u1 = displacement[0, i, j, start:end], displacement[1, i, j, start:end]
    u2 = displacement[2, i, j, start:end]
    for axis in range(3):
        m0, m1, m2 = matrix[axis, 0], matrix[axis, 1], matrix[axis, 2]
        origin = m0 * real(i) + m1 * real(j) + m2 * real(start) + matrix[axis, 3]
        row = x[axis]
        for k in range(len(row)):
            row[k] = origin + m0 * u0[k] + m1 * u1[k] + m2 * (real(k) + u2[k])


@kernel
def _fade(x: Any, n: Any, coverage: Any) -> None:
    """Multiply by how far coordinates lie inside an axis's outer faces: in voxels, 0 to 1.

    An axis of one voxel has no inside to fade from.
    """
    real = x.dtype.type
    zero, one, half, top = real(0), real(1), real(0.5), real(n - 1)
    for k in range(len(x)):
        depth = min(max(min(x[k], top - x[k]) + half, zero), one)
        coverage[k] *= depth if n > 1 else (one if depth > zero else zero)


@kernel
def warp_planes(
    first: int,
    last: int,
    image: Any,
    matrix: Any,
    displacement: Any,
    runs: Any,
    moved: Any,
    coverage: Any,
    least: Any,
) -> None:
    """``moved(x) = image(matrix (x + displacement(x)))`` at the voxels of runs ``(I, J, 2)``.

    Beyond the image's faces its outer voxels go on; ``coverage`` becomes 1 well inside the image
    and fades over a voxel to 0 at its faces, and ``least[i]`` is the plane's least.
    """
    one = image.dtype.type(1)
    shape, nk = image.shape, moved.shape[2]
    step, values = steps(shape), image.ravel()
    points, shares = np.empty((3, nk), image.dtype), np.empty((3, nk), image.dtype)
    insides, indices = np.empty(nk, image.dtype), np.empty(nk, np.int32)
    for i in range(first, last):
        lowest = one
        for j in range(moved.shape[1]):
            start = runs[i, j, 0]
            n = runs[i, j, 1] - start
            if n <= 0:
                continue
            x, share, within, index = points[:, :n], shares[:, :n], insides[:n], indices[:n]
            corner, covered = index.view(np.uint32), coverage[i, j, start : start + n]
            fi, fj, fk = share[0], share[1], share[2]
            _mapped_row(matrix, displacement, i, j, start, x)
            for k in range(n):
                covered[k] = one
            for axis in range(3):
                _fade(x[axis], shape[axis], covered)
            for k in range(n):
                lowest = min(lowest, covered[k])
            locate(x, shape, index, share, within)
            row = moved[i, j, start : start + n]
            for k in range(n):
                row[k] = read(values, corner[k], step, fi[k], fj[k], fk[k])
        least[i] = lowest


@kernel
def _add_fading(x: Any, n: Any, covered: Any, by_coverage: Any, slope: Any) -> None:
    """Add how a coverage, see `_fade`, changes along one of its axes."""
    real = x.dtype.type
    zero, one, half, top = real(0), real(1), real(0.5), real(n - 1)
    for k in range(len(x)):
        low, high = x[k] + half, top - x[k] + half
        depth = min(low, high)
        if n > 1 and depth > zero and depth < one:
            slope[k] += by_coverage[k] * covered[k] / (depth if low < high else -depth)


@kernel
def _add_moments(slope: Any, displacement: Any, i: Any, j: Any, start: Any, sums: Any) -> None:
    """Add a row's sums of slopes times ``x + displacement(x)``, and of slopes."""
    end = start + len(slope)
    u0, u1 = displacement[0, i, j, start:end], displacement[1, i, j, start:end]
    u2 = displacement[2, i, j, start:end]
    a, b, c, one = 0.0, 0.0, 0.0, 0.0
    for k in range(len(slope)):
        a += slope[k] * (i + u0[k])
        b += slope[k] * (j + u1[k])
        c += slope[k] * (start + k + u2[k])
        one += slope[k]
    sums[0] += a
    sums[1] += b
    sums[2] += c
    sums[3] += one


@kernel
def warp_slope_planes(
    first: int,
    last: int,
    image: Any,
    matrix: Any,
    displacement: Any,
    runs: Any,
    by_moved: Any,
    by_coverage: Any,
    sums: Any,
) -> None:
    """``sums[i, a, b]``: the derivative by ``matrix[a, b]`` of what `warp_planes` makes of a plane.

    Args:
        by_moved: ``(I, J, K)``, the loss's derivative by the moved image.
        by_coverage: the same by the coverage, or None.
        sums: ``(I, 3, 4)`` float64.
    """
    real = image.dtype.type
    zero, one = real(0), real(1)
    shape, nk = image.shape, by_moved.shape[2]
    step, values = steps(shape), image.ravel()
    ti, tj, tk = real(shape[0] - 1), real(shape[1] - 1), real(shape[2] - 1)
    points, shares = np.empty((3, nk), image.dtype), np.empty((3, nk), image.dtype)
    insides, slopes = np.empty(nk, image.dtype), np.empty((3, nk), image.dtype)
    indices, coverage = np.empty(nk, np.int32), np.empty(nk, image.dtype)
    for i in range(first, last):
        for j in range(by_moved.shape[1]):
            start = runs[i, j, 0]
            n = runs[i, j, 1] - start
            if n <= 0:
                continue
            x, share, slope = points[:, :n], shares[:, :n], slopes[:, :n]
            index, covered, by_value = indices[:n], coverage[:n], by_moved[i, j, start : start + n]
            corner = index.view(np.uint32)
            xi, xj, xk = x[0], x[1], x[2]
            fi, fj, fk = share[0], share[1], share[2]
            si, sj, sk = slope[0], slope[1], slope[2]
            _mapped_row(matrix, displacement, i, j, start, x)
            locate(x, shape, index, share, insides[:n])
            for k in range(n):
                _, di, dj, dk = read_slopes(values, corner[k], step, fi[k], fj[k], fk[k])
                si[k], sj[k], sk[k] = by_value[k] * di, by_value[k] * dj, by_value[k] * dk
            # In the outer half voxel and beyond the value does not change along that axis.
            for k in range(n):
                si[k] *= one if xi[k] > zero and xi[k] < ti else zero
                sj[k] *= one if xj[k] > zero and xj[k] < tj else zero
                sk[k] *= one if xk[k] > zero and xk[k] < tk else zero
            if by_coverage is not None:
                for k in range(n):
                    covered[k] = one
                for axis in range(3):
                    _fade(x[axis], shape[axis], covered)
                by_covered = by_coverage[i, j, start : start + n]
                for axis in range(3):
                    _add_fading(x[axis], shape[axis], covered, by_covered, slope[axis])
            for axis in range(3):
                _add_moments(slope[axis], displacement, i, j, start, sums[i, axis])


@kernel
def force_planes(first: int, last: int, moved: Any, by_moved: Any, runs: Any, out: Any) -> None:
    """``-by_moved grad moved``, summed over channels, by central differences.

    At the voxels of runs ``(I, J, 2)``, all of them within the faces of axes of more than one.
    """
    channels, ni, nj, nk = moved.shape
    half = moved.dtype.type(0.5)
    si, sj, sk = int(ni > 1), int(nj > 1), int(nk > 1)
    for i in range(first, last):
        for j in range(nj):
            a, b = runs[i, j, 0], runs[i, j, 1]
            if b <= a:
                continue
            along_i, along_j, along_k = out[0, i, j, a:b], out[1, i, j, a:b], out[2, i, j, a:b]
            for k in range(b - a):
                along_i[k], along_j[k], along_k[k] = 0, 0, 0
            for c in range(channels):
                scale = by_moved[c, i, j, a:b]
                below, above = moved[c, i - si, j, a:b], moved[c, i + si, j, a:b]
                left, right = moved[c, i, j - sj, a:b], moved[c, i, j + sj, a:b]
                before, after = moved[c, i, j, a - sk : b - sk], moved[c, i, j, a + sk : b + sk]
                for k in range(b - a):
                    along_i[k] -= half * scale[k] * (above[k] - below[k])
                for k in range(b - a):
                    along_j[k] -= half * scale[k] * (right[k] - left[k])
                for k in range(b - a):
                    along_k[k] -= half * scale[k] * (after[k] - before[k])


# -- on tensors ------------------------------------------------------------------------------------


def warp(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    region: Region | None = None,
    out: Buffers | None = None,
) -> Warped:
    """The moved image and how far inside it was read. See `stn3d.kernels`."""
    moved, coverage = out or buffers(image, displacement_vox)
    field, m = as_field(displacement_vox[0].to(image.dtype)), as_matrix(matrix, image.dtype)
    runs, least = runs_of(region, field), np.ones(field.shape[1], field.dtype)
    work, inside = runs.lengths.sum(axis=1), volumes(coverage)[0]
    for source, target in zip(volumes(image), volumes(moved), strict=True):
        results = target, inside, least
        run(warp_planes, len(target), source, m, field, runs.runs, *results, work=work)
    return Warped(moved, coverage if float(least.min()) < 1 else None)


def warp_slope(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    by_moved: Tensor,
    by_coverage: Tensor | None,
    region: Region | None = None,
) -> Tensor:
    """A loss's derivative by the matrix of `warp`. See `stn3d.kernels`."""
    d = displacement_vox.shape[1]
    field, m = as_field(displacement_vox[0].to(image.dtype)), as_matrix(matrix, image.dtype)
    runs, sums = runs_of(region, field), np.zeros((field.shape[1], 3, 4))
    work = runs.lengths.sum(axis=1)
    by_coverages = [None] * len(image[0])
    if by_coverage is not None:
        by_coverages[0] = volumes(by_coverage)[0]
    for source, slope, fading in zip(volumes(image), volumes(by_moved), by_coverages, strict=True):
        options = field, runs.runs, slope, fading, sums
        run(warp_slope_planes, len(slope), source, m, *options, work=work)
    return torch.from_numpy(sums.sum(axis=0)[3 - d :, 3 - d :])


def force(moved: Tensor, by_moved: Tensor, region: Region, out: Tensor) -> Tensor:
    """Where a loss falls most steeply. See `stn3d.kernels`."""
    result, work = as_field(out[0]), region.lengths.sum(axis=1)
    run(force_planes, len(work), volumes(moved), volumes(by_moved), region.runs, result, work=work)
    if out.shape[1] == 2:
        out[0].copy_(torch.from_numpy(result[1:, 0]))
    return out
