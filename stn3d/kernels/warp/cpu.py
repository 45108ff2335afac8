"""Warping and its gradient by the matrix, row by row at the voxels of runs ``(I, J, 2)``.

Fields are ``(3, I, J, K)`` in voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.common.interpolation import interpolate, interpolate_gradient, locate, steps
from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.region import Region
from stn3d.kernels.common.tensors import as_field, as_matrix, runs_of, volumes
from stn3d.kernels.warp.types import Buffers, Warped, buffers


@kernel
def _mapped_row(matrix: Any, displacement: Any, i: Any, j: Any, start: Any, x: Any) -> None:
    """``matrix (x + displacement(x))`` for the n voxels of a row from ``start`` on, ``(3, n)``."""
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
def _multiply_coverage(x: Any, n: Any, coverage: Any) -> None:
    """Multiply by the coverage along one axis: the distance to the nearer face in voxels, 0 to 1.

    Along an axis of one voxel it is 1 inside the domain and 0 outside.
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

    Beyond the image the nearest voxel's value. ``coverage`` becomes 1 inside the image, falling to
    0 over the last voxel before its faces; ``least[i]`` is the minimum of plane i.
    """
    one = image.dtype.type(1)
    shape, nk = image.shape, moved.shape[2]
    step, values = steps(shape), image.ravel()
    points, fractions = np.empty((3, nk), image.dtype), np.empty((3, nk), image.dtype)
    insides, indices = np.empty(nk, image.dtype), np.empty(nk, np.int32)
    for i in range(first, last):
        lowest = one
        for j in range(moved.shape[1]):
            start = runs[i, j, 0]
            n = runs[i, j, 1] - start
            if n <= 0:
                continue
            x, fraction, within, index = points[:, :n], fractions[:, :n], insides[:n], indices[:n]
            corner, covered = index.view(np.uint32), coverage[i, j, start : start + n]
            fi, fj, fk = fraction[0], fraction[1], fraction[2]
            _mapped_row(matrix, displacement, i, j, start, x)
            for k in range(n):
                covered[k] = one
            for axis in range(3):
                _multiply_coverage(x[axis], shape[axis], covered)
            for k in range(n):
                lowest = min(lowest, covered[k])
            locate(x, shape, index, fraction, within)
            row = moved[i, j, start : start + n]
            for k in range(n):
                row[k] = interpolate(values, corner[k], step, fi[k], fj[k], fk[k])
        least[i] = lowest


@kernel
def _add_fading(x: Any, n: Any, covered: Any, by_coverage: Any, gradient: Any) -> None:
    """Add the gradient of the coverage (`_multiply_coverage`) along one axis."""
    real = x.dtype.type
    zero, one, half, top = real(0), real(1), real(0.5), real(n - 1)
    for k in range(len(x)):
        low, high = x[k] + half, top - x[k] + half
        depth = min(low, high)
        if n > 1 and depth > zero and depth < one:
            gradient[k] += by_coverage[k] * covered[k] / (depth if low < high else -depth)


@kernel
def _add_moments(gradient: Any, displacement: Any, i: Any, j: Any, start: Any, sums: Any) -> None:
    """Add a row's sums of the gradient times ``x + displacement(x)``, and of the gradient."""
    end = start + len(gradient)
    u0, u1 = displacement[0, i, j, start:end], displacement[1, i, j, start:end]
    u2 = displacement[2, i, j, start:end]
    a, b, c, one = 0.0, 0.0, 0.0, 0.0
    for k in range(len(gradient)):
        a += gradient[k] * (i + u0[k])
        b += gradient[k] * (j + u1[k])
        c += gradient[k] * (start + k + u2[k])
        one += gradient[k]
    sums[0] += a
    sums[1] += b
    sums[2] += c
    sums[3] += one


@kernel
def warp_gradient_planes(
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
    """``sums[i, a, b]``: the gradient with respect to ``matrix[a, b]`` from plane i.

    Args:
        by_moved: ``(I, J, K)`` gradient with respect to the warped values.
        by_coverage: gradient with respect to the coverage, or None.
        sums: ``(I, 3, 4)`` float64.
    """
    real = image.dtype.type
    zero, one = real(0), real(1)
    shape, nk = image.shape, by_moved.shape[2]
    step, values = steps(shape), image.ravel()
    ti, tj, tk = real(shape[0] - 1), real(shape[1] - 1), real(shape[2] - 1)
    points, fractions = np.empty((3, nk), image.dtype), np.empty((3, nk), image.dtype)
    insides, gradients = np.empty(nk, image.dtype), np.empty((3, nk), image.dtype)
    indices, coverage = np.empty(nk, np.int32), np.empty(nk, image.dtype)
    for i in range(first, last):
        for j in range(by_moved.shape[1]):
            start = runs[i, j, 0]
            n = runs[i, j, 1] - start
            if n <= 0:
                continue
            x, fraction, gradient = points[:, :n], fractions[:, :n], gradients[:, :n]
            index, covered, by_value = indices[:n], coverage[:n], by_moved[i, j, start : start + n]
            corner = index.view(np.uint32)
            xi, xj, xk = x[0], x[1], x[2]
            fi, fj, fk = fraction[0], fraction[1], fraction[2]
            si, sj, sk = gradient[0], gradient[1], gradient[2]
            _mapped_row(matrix, displacement, i, j, start, x)
            locate(x, shape, index, fraction, insides[:n])
            for k in range(n):
                _, di, dj, dk = interpolate_gradient(values, corner[k], step, fi[k], fj[k], fk[k])
                si[k], sj[k], sk[k] = by_value[k] * di, by_value[k] * dj, by_value[k] * dk
            # The gradient is 0 in the outer half voxel and beyond.
            for k in range(n):
                si[k] *= one if xi[k] > zero and xi[k] < ti else zero
                sj[k] *= one if xj[k] > zero and xj[k] < tj else zero
                sk[k] *= one if xk[k] > zero and xk[k] < tk else zero
            if by_coverage is not None:
                for k in range(n):
                    covered[k] = one
                for axis in range(3):
                    _multiply_coverage(x[axis], shape[axis], covered)
                by_covered = by_coverage[i, j, start : start + n]
                for axis in range(3):
                    _add_fading(x[axis], shape[axis], covered, by_covered, gradient[axis])
            for axis in range(3):
                _add_moments(gradient[axis], displacement, i, j, start, sums[i, axis])


def warp(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    region: Region | None = None,
    out: Buffers | None = None,
) -> Warped:
    """Warp each channel at the voxels of the region."""
    moved, coverage = out or buffers(image, displacement_vox)
    field, m = as_field(displacement_vox[0].to(image.dtype)), as_matrix(matrix, image.dtype)
    runs, least = runs_of(region, field), np.ones(field.shape[1], field.dtype)
    work, inside = runs.lengths.sum(axis=1), volumes(coverage)[0]
    for source, target in zip(volumes(image), volumes(moved), strict=True):
        results = target, inside, least
        run(warp_planes, len(target), source, m, field, runs.runs, *results, work=work)
    return Warped(moved, coverage if float(least.min()) < 1 else None)


def warp_gradient(
    image: Tensor,
    matrix: Tensor,
    displacement_vox: Tensor,
    by_moved: Tensor,
    by_coverage: Tensor | None,
    region: Region | None = None,
) -> Tensor:
    """Add the sums of all planes and channels in double precision."""
    d = displacement_vox.shape[1]
    field, m = as_field(displacement_vox[0].to(image.dtype)), as_matrix(matrix, image.dtype)
    runs, sums = runs_of(region, field), np.zeros((field.shape[1], 3, 4))
    work = runs.lengths.sum(axis=1)
    by_coverages = [None] * len(image[0])
    if by_coverage is not None:
        by_coverages[0] = volumes(by_coverage)[0]
    for source, *upstream in zip(volumes(image), volumes(by_moved), by_coverages, strict=True):
        options = field, runs.runs, *upstream, sums
        run(warp_gradient_planes, len(sums), source, m, *options, work=work)
    return torch.from_numpy(sums.sum(axis=0)[3 - d :, 3 - d :])
