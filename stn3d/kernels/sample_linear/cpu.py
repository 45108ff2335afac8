"""Reading a volume at any points: values, derivatives by the points, and the adjoint.

Points are index coordinates ``(N, d)`` in blocks of any length, or displacements ``(3, N)`` of the
voxels of a grid in its rows of K; then ``rows`` is the grid's J, else 0. Coordinates keep their own
precision until their fractions are formed. What holds between voxels and beyond the faces is said
in `stn3d.kernels.cpu.interpolation`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.cpu.interpolation import locate, read, read_slopes, steps
from stn3d.kernels.cpu.jit import kernel, run
from stn3d.kernels.cpu.tensors import Array, batch_of, volumes


@kernel
def _coordinates(points: Any, rows: Any, start: Any, count: Any, x: Any) -> None:
    """The coordinates ``(3, length)`` of ``count`` points from number ``start`` on."""
    real = x.dtype.type
    if rows == 0:
        d = points.shape[1]
        for axis in range(d):
            line = x[3 - d + axis]
            for k in range(count):
                line[k] = points[start + k, axis]
        return
    row = start // count
    u0, u1, u2 = points[0], points[1], points[2]
    xi, xj, xk = x[0], x[1], x[2]
    i, j = real(row // rows), real(row % rows)
    for k in range(count):
        xi[k] = i + u0[start + k]
    for k in range(count):
        xj[k] = j + u1[start + k]
    for k in range(count):
        xk[k] = real(k) + u2[start + k]


@kernel
def sample_blocks(
    first: int, last: int, image: Any, points: Any, rows: Any, length: Any, out: Any
) -> None:
    """``out`` ``(C, N)``: the values of ``image`` ``(C, I, J, K)`` at the points."""
    channels, shape, n = image.shape[0], image.shape[1:], out.shape[1]
    step, zero = steps(shape), image.dtype.type(0)
    x, share = np.zeros((3, length), points.dtype), np.empty((3, length), image.dtype)
    within, index = np.empty(length, image.dtype), np.empty(length, np.int32)
    corner = index.view(np.uint32)
    fi, fj, fk = share[0], share[1], share[2]
    for block in range(first, last):
        start = block * length
        count = min(length, n - start)
        _coordinates(points, rows, start, count, x)
        locate(x, shape, index, share, within)
        for c in range(channels):
            values, row = image[c].ravel(), out[c, start : start + count]
            for k in range(count):
                value = read(values, corner[k], step, fi[k], fj[k], fk[k])
                row[k] = value if within[k] > zero else zero


@kernel
def slope_blocks(
    first: int,
    last: int,
    image: Any,
    points: Any,
    rows: Any,
    length: Any,
    gradient: Any,
    out: Any,
) -> None:
    """``out``, laid out as the points: derivatives by them, from those by the values ``(C, N)``."""
    channels, shape, n = image.shape[0], image.shape[1:], gradient.shape[1]
    step, zero = steps(shape), image.dtype.type(0)
    x, share = np.zeros((3, length), points.dtype), np.empty((3, length), image.dtype)
    within, index = np.empty(length, image.dtype), np.empty(length, np.int32)
    total = np.empty((3, length), image.dtype)
    corner = index.view(np.uint32)
    fi, fj, fk = share[0], share[1], share[2]
    ti, tj, tk = total[0], total[1], total[2]
    for block in range(first, last):
        start = block * length
        count = min(length, n - start)
        _coordinates(points, rows, start, count, x)
        locate(x, shape, index, share, within)
        for k in range(length):
            ti[k], tj[k], tk[k] = zero, zero, zero
        for c in range(channels):
            values, slope = image[c].ravel(), gradient[c, start : start + count]
            for k in range(count):
                if within[k] > zero:
                    _, di, dj, dk = read_slopes(values, corner[k], step, fi[k], fj[k], fk[k])
                    ti[k] += slope[k] * di
                    tj[k] += slope[k] * dj
                    tk[k] += slope[k] * dk
        _store_slopes(x, shape, total, rows, start, count, out)


@kernel
def _store_slopes(
    x: Any, shape: Any, total: Any, rows: Any, start: Any, count: Any, out: Any
) -> None:
    """In the outer half voxel, and along an axis of one voxel, nothing changes."""
    zero = total.dtype.type(0)
    d = 3 if rows > 0 else out.shape[1]
    for axis in range(3 - d, 3):
        line, top = total[axis], x.dtype.type(shape[axis] - 1)
        for k in range(count):
            at = x[axis, k]
            if not (at > 0 and at < top):
                line[k] = zero
        if rows > 0:
            row = out[axis]
            for k in range(count):
                row[start + k] = line[k]
        else:
            for k in range(count):
                out[start + k, axis + d - 3] = line[k]


@kernel
def scatter_blocks(
    first: int, last: int, gradient: Any, points: Any, rows: Any, length: Any, out: Any
) -> None:
    """Derivatives by the image from those by the values ``(C, N)``: the adjoint of `sample_blocks`.

    ``out`` ``(C, S, I, J, K)``, zero on entry, receives S shares of the points apart; their sum is
    wanted. Task number is ``c S + s``.
    """
    slabs, shape, n = out.shape[1], out.shape[2:], gradient.shape[1]
    step = steps(shape)
    si, sj, sk = step
    x, share = np.zeros((3, length), points.dtype), np.empty((3, length), out.dtype)
    within, index = np.empty(length, out.dtype), np.empty(length, np.int32)
    corner = index.view(np.uint32)
    fi, fj, fk = share[0], share[1], share[2]
    blocks = (n + length - 1) // length
    for task in range(first, last):
        c, s = task // slabs, task % slabs
        values, slope = out[c, s].ravel(), gradient[c]
        for block in range(blocks * s // slabs, blocks * (s + 1) // slabs):
            start = block * length
            count = min(length, n - start)
            _coordinates(points, rows, start, count, x)
            locate(x, shape, index, share, within)
            for k in range(count):
                if within[k] > 0:
                    g = slope[start + k]
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


# -- one item of a batch after the other; a batch of one, on either side, serves all ---------------


@kernel
def sample_items(first: int, last: int, images: Any, points: Any, length: Any, out: Any) -> None:
    """`sample_blocks` of images ``(B, C, I, J, K)`` at points ``(B, N, d)``."""
    blocks = (points.shape[1] + length - 1) // length
    for b in range(first, last):
        image, at = images[b % len(images)], points[b % len(points)]
        sample_blocks(0, blocks, image, at, 0, length, out[b])


@kernel
def slope_items(
    first: int, last: int, images: Any, points: Any, length: Any, gradient: Any, out: Any
) -> None:
    """`slope_blocks` of images ``(B, C, I, J, K)`` at points ``(B, N, d)``."""
    blocks = (points.shape[1] + length - 1) // length
    for b in range(first, last):
        image, at = images[b % len(images)], points[b % len(points)]
        slope_blocks(0, blocks, image, at, 0, length, gradient[b], out[b])


@kernel
def scatter_items(
    first: int, last: int, gradient: Any, points: Any, length: Any, shares: Any, out: Any
) -> None:
    """`scatter_blocks` added to ``out`` ``(B, C, I, J, K)``, so many shares after one another."""
    channels, shape = out.shape[1], out.shape[2:]
    parts = np.empty((channels, shares, shape[0], shape[1], shape[2]), out.dtype)
    flat = parts.reshape(channels, shares, -1)
    for b in range(first, last):
        flat.fill(0)
        scatter_blocks(0, channels * shares, gradient[b], points[b % len(points)], 0, length, parts)
        for c in range(channels):
            target = out[b, c].ravel()
            for s in range(shares):
                for v in range(len(target)):
                    target[v] += flat[c, s, v]


# -- on tensors ------------------------------------------------------------------------------------

_BLOCK = 256  # points that are worked on at a time


class Points(NamedTuple):
    """Where an image is read, as the loops take it."""

    array: Array
    rows: int
    length: int

    @property
    def blocks(self) -> int:
        count = self.array.size // (3 if self.rows else self.array.shape[1])
        return -(-count // self.length)


def _at(points_index: Tensor, image: Tensor) -> Points:
    """Some of the points, ``(N, d)``."""
    return Points(_points(points_index, image), 0, _BLOCK)


def _points(points_index: Tensor, image: Tensor) -> Array:
    """The points; their precision is kept, and is never below the image's."""
    dtype = torch.promote_types(points_index.dtype, image.dtype)
    return points_index.detach().to(dtype).contiguous().numpy()


def one_of(batch: Tensor, b: int) -> Tensor:
    """Item b, a batch of one; a batch of one serves all."""
    return batch[b : b + 1] if len(batch) > 1 else batch


def sample_linear(image: Tensor, points_index: Tensor) -> Tensor:
    """Read an image between its voxels. See `stn3d.kernels`."""
    batch = max(len(image), len(points_index))
    out = image.new_empty(batch, image.shape[1], points_index.shape[1])
    if _by_items(batch):
        points = _points(points_index, image)
        run(sample_items, batch, batch_of(image), points, _BLOCK, out.numpy())
        return out
    for b in range(batch):
        at = _at(one_of(points_index, b)[0], image)
        run(sample_blocks, at.blocks, volumes(one_of(image, b)), *at, out[b].numpy())
    return out


def sample_slopes(image: Tensor, points_index: Tensor, gradient: Tensor) -> Tensor:
    """Derivatives by the points ``(B, N, d)`` from those by the values ``(B, C, N)``."""
    gradient = gradient.contiguous()
    points = _points(points_index, image)
    out = np.empty((len(gradient), *points.shape[1:]), points.dtype)
    if _by_items(len(gradient)):
        run(slope_items, len(out), batch_of(image), points, _BLOCK, gradient.numpy(), out)
    else:
        for b, slope in enumerate(gradient):
            at = _at(one_of(points_index, b)[0], image)
            run(slope_blocks, at.blocks, volumes(one_of(image, b)), *at, slope.numpy(), out[b])
    return torch.from_numpy(out).to(points_index.dtype).sum_to_size(points_index.shape)


def sample_adjoint(image: Tensor, points_index: Tensor, gradient: Tensor) -> Tensor:
    """Derivatives by the image ``(B, C, *shape)`` from those by the values ``(B, C, N)``."""
    out = torch.zeros_like(image, memory_format=torch.contiguous_format)
    gradient = gradient.contiguous()
    if _by_items(len(image)):
        points = _points(points_index, image)
        shares = _shares(image.shape[1])
        run(scatter_items, len(out), gradient.numpy(), points, _BLOCK, shares, batch_of(out))
        return out
    for b, slope in enumerate(gradient):
        scatter(slope.numpy(), _at(one_of(points_index, b)[0], image), one_of(out, b))
    return out


def _by_items(batch: int) -> bool:
    """Whether threads take whole items of a batch, and not blocks of one item's points.

    Never a question of how many threads there are: both may differ in the last digits.
    """
    return batch >= 16


def _shares(channels: int) -> int:
    """Shares of the points that are summed apart, then in order: threads do not change the sums."""
    return -(-4 // channels)


def scatter(gradient: Array, at: Points, out: Tensor) -> None:
    """Add to ``out`` ``(1, C, *shape)`` what each voxel gave to the values."""
    target = volumes(out)
    shares = np.zeros((len(target), _shares(len(target)), *target.shape[1:]), target.dtype)
    run(scatter_blocks, shares.shape[0] * shares.shape[1], gradient, *at, shares)
    for share in range(shares.shape[1]):
        target += shares[:, share]
