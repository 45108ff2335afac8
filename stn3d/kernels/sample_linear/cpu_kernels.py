"""Numba kernels of `sample_linear`: values, and gradients with respect to points and image.

Points are index coordinates ``(N, d)``, processed in blocks of ``length``. Coordinates keep their
own dtype until their fractions are computed. The interpolation is defined in
`stn3d.kernels.common.interpolation`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stn3d.kernels.common.interpolation import interpolate, interpolate_gradient, locate, steps
from stn3d.kernels.common.jit import kernel


@kernel
def _coordinates(points: Any, start: Any, count: Any, x: Any) -> None:
    """The coordinates ``(3, length)`` of ``count`` points starting at point ``start``."""
    d = points.shape[1]
    for axis in range(d):
        line = x[3 - d + axis]
        for k in range(count):
            line[k] = points[start + k, axis]


@kernel
def sample_blocks(first: int, last: int, image: Any, points: Any, length: Any, out: Any) -> None:
    """``out`` ``(C, N)``: values of ``image`` ``(C, I, J, K)`` at the points."""
    channels, shape, n = image.shape[0], image.shape[1:], out.shape[1]
    step, zero = steps(shape), image.dtype.type(0)
    x, fraction = np.zeros((3, length), points.dtype), np.empty((3, length), image.dtype)
    within, index = np.empty(length, image.dtype), np.empty(length, np.int32)
    corner = index.view(np.uint32)
    fi, fj, fk = fraction[0], fraction[1], fraction[2]
    for block in range(first, last):
        start = block * length
        count = min(length, n - start)
        _coordinates(points, start, count, x)
        locate(x, shape, index, fraction, within)
        for c in range(channels):
            values, row = image[c].ravel(), out[c, start : start + count]
            for k in range(count):
                value = interpolate(values, corner[k], step, fi[k], fj[k], fk[k])
                row[k] = value if within[k] > zero else zero


@kernel
def point_gradient_blocks(
    first: int, last: int, image: Any, points: Any, length: Any, gradient: Any, out: Any
) -> None:
    """``out`` ``(N, d)``: gradient by the points, from the one by the values ``(C, N)``."""
    channels, shape, n = image.shape[0], image.shape[1:], gradient.shape[1]
    step, zero = steps(shape), image.dtype.type(0)
    x, fraction = np.zeros((3, length), points.dtype), np.empty((3, length), image.dtype)
    within, index = np.empty(length, image.dtype), np.empty(length, np.int32)
    total = np.empty((3, length), image.dtype)
    corner = index.view(np.uint32)
    fi, fj, fk = fraction[0], fraction[1], fraction[2]
    ti, tj, tk = total[0], total[1], total[2]
    for block in range(first, last):
        start = block * length
        count = min(length, n - start)
        _coordinates(points, start, count, x)
        locate(x, shape, index, fraction, within)
        for k in range(length):
            ti[k], tj[k], tk[k] = zero, zero, zero
        for c in range(channels):
            values, upstream = image[c].ravel(), gradient[c, start : start + count]
            for k in range(count):
                if within[k] > zero:
                    _, di, dj, dk = interpolate_gradient(
                        values, corner[k], step, fi[k], fj[k], fk[k]
                    )
                    ti[k] += upstream[k] * di
                    tj[k] += upstream[k] * dj
                    tk[k] += upstream[k] * dk
        _store_gradient(x, shape, total, start, count, out)


@kernel
def _store_gradient(x: Any, shape: Any, total: Any, start: Any, count: Any, out: Any) -> None:
    """Store a block's gradient: 0 in the outer half voxel and along an axis of one voxel."""
    zero = total.dtype.type(0)
    d = out.shape[1]
    for axis in range(3 - d, 3):
        line, top = total[axis], x.dtype.type(shape[axis] - 1)
        for k in range(count):
            at = x[axis, k]
            if not (at > 0 and at < top):
                line[k] = zero
        for k in range(count):
            out[start + k, axis + d - 3] = line[k]


@kernel
def scatter_blocks(
    first: int, last: int, gradient: Any, points: Any, length: Any, out: Any
) -> None:
    """Gradient by the image, from the one by the values ``(C, N)``.

    The points are divided into S parts with separate sums in ``out`` ``(C, S, I, J, K)``, zero on
    entry, to be added by the caller. Part s of channel c is task ``c S + s``.
    """
    num_parts, shape, n = out.shape[1], out.shape[2:], gradient.shape[1]
    step = steps(shape)
    si, sj, sk = step
    x, fraction = np.zeros((3, length), points.dtype), np.empty((3, length), out.dtype)
    within, index = np.empty(length, out.dtype), np.empty(length, np.int32)
    corner = index.view(np.uint32)
    fi, fj, fk = fraction[0], fraction[1], fraction[2]
    blocks = (n + length - 1) // length
    for task in range(first, last):
        c, s = task // num_parts, task % num_parts
        values, upstream = out[c, s].ravel(), gradient[c]
        for block in range(blocks * s // num_parts, blocks * (s + 1) // num_parts):
            start = block * length
            count = min(length, n - start)
            _coordinates(points, start, count, x)
            locate(x, shape, index, fraction, within)
            for k in range(count):
                if within[k] > 0:
                    g = upstream[start + k]
                    p = corner[k]
                    q, r, t = p + sj, p + si, p + si + sj
                    far = g * fi[k]
                    near = g - far
                    n1, f1 = near * fj[k], far * fj[k]
                    n0, f0 = near - n1, far - f1
                    values[p] += n0 - n0 * fk[k]
                    values[p + sk] += n0 * fk[k]
                    values[q] += n1 - n1 * fk[k]
                    values[q + sk] += n1 * fk[k]
                    values[r] += f0 - f0 * fk[k]
                    values[r + sk] += f0 * fk[k]
                    values[t] += f1 - f1 * fk[k]
                    values[t + sk] += f1 * fk[k]


# -- batches: one item after another; a batch of one on either side is broadcast -------------------


@kernel
def sample_items(first: int, last: int, images: Any, points: Any, length: Any, out: Any) -> None:
    """`sample_blocks` for images ``(B, C, I, J, K)`` at points ``(B, N, d)``."""
    blocks = (points.shape[1] + length - 1) // length
    for b in range(first, last):
        image, at = images[b % len(images)], points[b % len(points)]
        sample_blocks(0, blocks, image, at, length, out[b])


@kernel
def point_gradient_items(
    first: int, last: int, images: Any, points: Any, length: Any, gradient: Any, out: Any
) -> None:
    """`point_gradient_blocks` for images ``(B, C, I, J, K)`` at points ``(B, N, d)``."""
    blocks = (points.shape[1] + length - 1) // length
    for b in range(first, last):
        image, at = images[b % len(images)], points[b % len(points)]
        point_gradient_blocks(0, blocks, image, at, length, gradient[b], out[b])


@kernel
def scatter_items(
    first: int, last: int, gradient: Any, points: Any, length: Any, num_parts: Any, out: Any
) -> None:
    """`scatter_blocks` for a batch, with its parts added to ``out`` ``(B, C, I, J, K)``."""
    channels, shape = out.shape[1], out.shape[2:]
    parts = np.empty((channels, num_parts, shape[0], shape[1], shape[2]), out.dtype)
    flat = parts.reshape(channels, num_parts, -1)
    for b in range(first, last):
        flat.fill(0)
        scatter_blocks(0, channels * num_parts, gradient[b], points[b % len(points)], length, parts)
        for c in range(channels):
            target = out[b, c].ravel()
            for s in range(num_parts):
                for v in range(len(target)):
                    target[v] += flat[c, s, v]
