"""Inversion of displacement fields ``(3, I, J, K)`` in voxels, row by row.

At a point y the inverse w solves r(w) = w + u(y + w) = 0. A row is initialised by extrapolation
from the two rows before it. Fixed-point steps (w - r) follow, and Newton steps where they do not
halve the residual, until all points have converged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.common.interpolation import interpolate, interpolate_gradient, locate, steps
from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import as_field, as_matrix, three_axes


@kernel
def _extrapolate(j: Any, before: Any, earlier: Any, w: Any) -> None:
    """Linear extrapolation to row j from the two rows before it: ``2 before - earlier``."""
    for k in range(len(w)):
        if j > 1:
            w[k] = before[k] + (before[k] - earlier[k])
        else:
            w[k] = before[k] if j == 1 else 0


@kernel
def _length(metric: Any, a: Any, b: Any, c: Any) -> Any:
    """Length in millimetres of a vector in voxels."""
    x = metric[0, 0] * a + metric[0, 1] * b + metric[0, 2] * c
    y = metric[1, 0] * a + metric[1, 1] * b + metric[1, 2] * c
    z = metric[2, 0] * a + metric[2, 1] * b + metric[2, 2] * c
    return np.sqrt(x * x + y * y + z * z)


@kernel
def _derivatives(values: Any, p: Any, step: Any, fraction: Any, t: Any, free: Any) -> Any:
    """Derivatives along the axes, times ``free``: 0 for axes where the point is in the outer half
    voxel."""
    fi, fj, fk = fraction[0, t], fraction[1, t], fraction[2, t]
    _, di, dj, dk = interpolate_gradient(values, p, step, fi, fj, fk)
    return di * free[0], dj * free[1], dk * free[2]


@kernel
def _newton_step(
    u0: Any,
    u1: Any,
    u2: Any,
    p: Any,
    step: Any,
    fraction: Any,
    t: Any,
    free: Any,
    ra: Any,
    rb: Any,
    rc: Any,
) -> Any:
    """Newton's step for the residual (ra, rb, rc) where the Jacobian is regular, else the residual;
    at most two voxels long."""
    one = fraction.dtype.type(1)
    a0, a1, a2 = _derivatives(u0, p, step, fraction, t, free)
    b0, b1, b2 = _derivatives(u1, p, step, fraction, t, free)
    c0, c1, c2 = _derivatives(u2, p, step, fraction, t, free)
    a0, b1, c2 = a0 + one, b1 + one, c2 + one
    m0, m1, m2 = b1 * c2 - b2 * c1, b2 * c0 - b0 * c2, b0 * c1 - b1 * c0
    det = a0 * m0 + a1 * m1 + a2 * m2
    if det > 0.05:
        over = one / det
        sa = (m0 * ra + (a2 * c1 - a1 * c2) * rb + (a1 * b2 - a2 * b1) * rc) * over
        sb = (m1 * ra + (a0 * c2 - a2 * c0) * rb + (a2 * b0 - a0 * b2) * rc) * over
        sc = (m2 * ra + (a1 * c0 - a0 * c1) * rb + (a0 * b1 - a1 * b0) * rc) * over
    else:
        sa, sb, sc = ra, rb, rc
    limit = min(one, 2 / max(np.sqrt(sa * sa + sb * sb + sc * sc), one))
    return sa * limit, sb * limit, sc * limit


@kernel
def _next_points(target: Any, w: Any, active: Any, count: Any, restart: Any, x: Any) -> None:
    """One axis of ``target + w`` for the active points; ``restart`` sets their w to 0."""
    for t in range(count):
        k = active[t]
        if restart:
            w[k] = 0
        x[t] = target[k] + w[k]


@kernel
def _solve_row(
    field: Any,
    target: Any,
    w: Any,
    metric: Any,
    tolerance: Any,
    iterations: Any,
    best: Any,
    error_mm: Any,
    scratch: Any,
) -> None:
    """Solve for a row of points ``target`` ``(3, K)``, from the initial values ``w``.

    ``best`` becomes the solution with the smallest residual, and ``error_mm`` the length of this
    residual in millimetres, infinite where it was never a finite number.
    """
    real = field.dtype.type
    # Not 0.5, which lands on faces, where fields are discontinuous, more often than by chance.
    zero, half, back = real(0), real(0.5), real(0.618)
    x, fraction, within, index, active, free = scratch
    shape = field.shape[1:]
    step, corner = steps(shape), index.view(np.uint32)
    u0, u1, u2 = field[0].ravel(), field[1].ravel(), field[2].ravel()
    nk = len(error_mm)
    for k in range(nk):
        active[k], error_mm[k] = k, np.inf
        best[0, k], best[1, k], best[2, k] = w[0, k], w[1, k], w[2, k]
    count = nk
    for trial in range(2 * iterations):
        iteration, again = trial % iterations, trial >= iterations
        for axis in range(3):  # after the first attempt the active points restart from 0
            _next_points(target[axis], w[axis], active, count, trial == iterations, x[axis])
        locate(x, shape, index[:count], fraction, within)
        kept = 0
        for t in range(count):
            k, p, inner = active[t], corner[t], within[t]
            fi, fj, fk = fraction[0, t], fraction[1, t], fraction[2, t]
            ra = w[0, k] + inner * interpolate(u0, p, step, fi, fj, fk)
            rb = w[1, k] + inner * interpolate(u1, p, step, fi, fj, fk)
            rc = w[2, k] + inner * interpolate(u2, p, step, fi, fj, fk)
            size = _length(metric, ra, rb, rc)
            slow, better = size > half * error_mm[k], size < error_mm[k]
            if better:
                error_mm[k] = size
                best[0, k], best[1, k], best[2, k] = w[0, k], w[1, k], w[2, k]
            if size > tolerance:
                if iteration > 3 and not better and not again:  # too long: step back
                    ra, rb, rc = w[0, k] - best[0, k], w[1, k] - best[1, k], w[2, k] - best[2, k]
                    ra, rb, rc = back * ra, back * rb, back * rc
                elif iteration > 3 or (slow and not again):
                    for axis in range(3):
                        inside = x[axis, t] > zero and x[axis, t] < real(shape[axis] - 1)
                        free[axis] = inner if inside else zero
                    ra, rb, rc = _newton_step(u0, u1, u2, p, step, fraction, t, free, ra, rb, rc)
                w[0, k] -= ra
                w[1, k] -= rb
                w[2, k] -= rc
                active[kept] = k
                kept += 1
        count = kept
        if count == 0:
            break


@kernel
def invert_planes(
    first: int,
    last: int,
    field: Any,
    matrix: Any,
    metric: Any,
    tolerance: Any,
    iterations: Any,
    out: Any,
    worst: Any,
) -> None:
    """``out`` ``(3, *wanted)``: ``w + field(y + w) = 0`` at ``y = matrix (wanted voxel)``.

    Args:
        field: ``(3, I, J, K)``; 0 beyond its grid.
        matrix: ``(3, 4)``, field indices from output indices.
        metric: ``(3, 3)``, millimetres from the field's voxels.
        tolerance: residual in millimetres below which a point has converged.
        iterations: maximum number of evaluations per point, in each of two attempts.
        out: in the field's voxels.
        worst: largest residual of each plane, in millimetres.
    """
    _, _, nj, nk = out.shape
    dtype = field.dtype
    real = dtype.type
    target, w, error_mm = np.empty((3, nk), dtype), np.empty((3, nk), dtype), np.empty(nk, dtype)
    rows = np.empty((3, 3, nk), dtype)
    scratch = (
        np.zeros((3, nk), dtype),
        np.empty((3, nk), dtype),
        np.empty(nk, dtype),
        np.empty(nk, np.int32),
        np.empty(nk, np.int32),
        np.empty(3, dtype),
    )
    for i in range(first, last):
        largest = real(0)
        for j in range(nj):
            best, before, earlier = rows[j % 3], rows[(j + 2) % 3], rows[(j + 1) % 3]
            for axis in range(3):
                _extrapolate(j, before[axis], earlier[axis], w[axis])
                start = matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 3]
                line = target[axis]
                for k in range(nk):
                    line[k] = start + matrix[axis, 2] * k
            _solve_row(field, target, w, metric, tolerance, iterations, best, error_mm, scratch)
            for k in range(nk):
                out[0, i, j, k], out[1, i, j, k] = best[0, k], best[1, k]
                out[2, i, j, k], largest = best[2, k], max(largest, error_mm[k])
        worst[i] = largest


def invert(
    displacement_vox: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    mm_from_vox: Tensor,
    tolerance_mm: float,
    max_iterations: int,
) -> tuple[Tensor, float]:
    """Solve field by field; the largest residual in millimetres of all."""
    dtype, d = displacement_vox.dtype, len(shape)
    at, metric = as_matrix(matrix, dtype), np.eye(3)
    metric[3 - d :, 3 - d :] = mm_from_vox.double().cpu().numpy()
    out = displacement_vox.new_empty(len(displacement_vox), d, *shape)
    largest = 0.0
    for vectors, one in zip(displacement_vox, out, strict=True):
        field = as_field(vectors)
        inverse = np.empty((3, *three_axes(shape, 1)), field.dtype)
        worst = np.empty(inverse.shape[1], field.dtype)
        options = metric.astype(field.dtype), field.dtype.type(tolerance_mm), max_iterations
        run(invert_planes, len(worst), field, at, *options, inverse, worst)
        one.copy_(torch.from_numpy(inverse[3 - d :]).reshape(one.shape))
        largest = max(largest, float(worst.max()))
    return out, largest
