"""Reading the images of a batch at lattices of points, each lattice told by a matrix of its own.

What `stn3d.kernels.cpu.sampling` does at any points, without ever storing the points: for a batch
of small images these would take more time than the reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.cpu.interpolation import (
    locate,
    locate_flat,
    read,
    read_flat,
    read_slopes,
    read_slopes_flat,
    steps,
)
from stn3d.kernels.cpu.jit import kernel, run
from stn3d.kernels.cpu.tensors import Array, batch_of

_LANES = 16  # rows are worked on in whole vector registers; what is beyond their end is not used


@kernel
def _row_of(matrix: Any, i: Any, j: Any, x: Any) -> None:
    """``matrix x`` for the voxels of a row, ``(3, K)``, in the precision of ``x``."""
    real = x.dtype.type
    for axis in range(3):
        origin = real(matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 3])
        step, row = real(matrix[axis, 2]), x[axis]
        for k in range(len(row)):
            row[k] = origin + step * real(k)


@kernel
def _located(x: Any, shape: Any, flat: Any, index: Any, share: Any, within: Any) -> None:
    if flat:
        locate_flat(x, shape, index, share, within)
    else:
        locate(x, shape, index, share, within)


@kernel
def lattice_rows(
    first: int, last: int, images: Any, matrices: Any, flat: Any, length: Any, out: Any
) -> None:
    """``out`` ``(B, C, I, J, K)``: images ``(B or 1, C, ...)`` at lattices ``(B or 1, 3, 4)``.

    Row number is ``(b I + i) J + j``. Rows are ``length`` points long, K or more. 2D images are
    ``flat``.
    """
    shape, ni, nj, nk = images.shape[2:], out.shape[2], out.shape[3], out.shape[4]
    step, zero = steps(shape), images.dtype.type(0)
    x, share = np.empty((3, length), images.dtype), np.empty((3, length), images.dtype)
    within, index = np.empty(length, images.dtype), np.empty(length, np.int32)
    corner = index.view(np.uint32)
    fi, fj, fk = share[0], share[1], share[2]
    for task in range(first, last):
        b, i, j = task // (ni * nj), task // nj % ni, task % nj
        _row_of(matrices[b % len(matrices)], i, j, x)
        _located(x, shape, flat, index, share, within)
        for c in range(out.shape[1]):
            values, row = images[b % len(images), c].ravel(), out[b, c, i, j]
            if flat:
                for k in range(nk):
                    value = read_flat(values, corner[k], step, fj[k], fk[k])
                    row[k] = value if within[k] > zero else zero
            else:
                for k in range(nk):
                    value = read(values, corner[k], step, fi[k], fj[k], fk[k])
                    row[k] = value if within[k] > zero else zero


@kernel
def lattice_back(
    first: int,
    last: int,
    images: Any,
    matrices: Any,
    flat: Any,
    length: Any,
    gradient: Any,
    by_matrix: Any,
    by_image: Any,
) -> None:
    """Derivatives by matrices and images from those by the values, ``(B, C, I, J, K)``.

    Both are added to: ``by_matrix`` ``(B, S, 3, 4)``, ``by_image`` ``(B, S, C, I, J, K)``. Share s
    of an item's rows goes to its own; task number is ``b S + s``. What has S = 0 is not wanted.
    """
    shape, ni, nj = images.shape[2:], gradient.shape[2], gradient.shape[3]
    step, top = steps(shape), (shape[0] - 1, shape[1] - 1, shape[2] - 1)
    x, share = np.empty((3, length), images.dtype), np.empty((3, length), images.dtype)
    within, index = np.empty(length, images.dtype), np.empty(length, np.int32)
    corner = index.view(np.uint32)
    shares = max(by_matrix.shape[1], by_image.shape[1])
    for task in range(first, last):
        b, s = task // shares, task % shares
        for row in range(ni * nj * s // shares, ni * nj * (s + 1) // shares):
            i, j = row // nj, row % nj
            _row_of(matrices[b % len(matrices)], i, j, x)
            _located(x, shape, flat, index, share, within)
            for c in range(gradient.shape[1]):
                slope = gradient[b, c, i, j]
                if by_matrix.shape[1] > 0:
                    values, part = images[b % len(images), c].ravel(), by_matrix[b, s]
                    if flat:
                        sums = _slopes_flat(values, corner, step, x, share, within, slope, top)
                    else:
                        sums = _slopes(values, corner, step, x, share, within, slope, top)
                    for axis in range(3):
                        count, moment = sums[axis]
                        part[axis, 0] += count * i
                        part[axis, 1] += count * j
                        part[axis, 2] += moment
                        part[axis, 3] += count
                if by_image.shape[1] > 0:
                    _give(by_image[b, s, c].ravel(), corner, step, share, within, slope, flat)


@kernel
def _slopes_flat(
    values: Any, corner: Any, step: Any, x: Any, share: Any, within: Any, slope: Any, top: Any
) -> Any:
    """For each axis a row's sum of slopes, and of slopes times k.

    In the outer half voxel, and along an axis of one voxel, nothing changes.
    """
    real = x.dtype.type
    zero, top_j, top_k = real(0), real(top[1]), real(top[2])
    sj, mj, sk, mk = zero, zero, zero, zero
    xj, xk, fj, fk = x[1], x[2], share[1], share[2]
    for k in range(len(slope)):
        dj, dk = read_slopes_flat(values, corner[k], step, fj[k], fk[k])
        g, at, seen = slope[k], real(k), within[k] > zero
        dj = g * dj if seen and xj[k] > zero and xj[k] < top_j else zero
        dk = g * dk if seen and xk[k] > zero and xk[k] < top_k else zero
        sj += dj
        mj += dj * at
        sk += dk
        mk += dk * at
    return (zero, zero), (sj, mj), (sk, mk)


@kernel
def _slopes(
    values: Any, corner: Any, step: Any, x: Any, share: Any, within: Any, slope: Any, top: Any
) -> Any:
    """`_slopes_flat` in a volume."""
    real = x.dtype.type
    zero, top_i, top_j, top_k = real(0), real(top[0]), real(top[1]), real(top[2])
    si, mi, sj, mj, sk, mk = zero, zero, zero, zero, zero, zero
    xi, xj, xk = x[0], x[1], x[2]
    fi, fj, fk = share[0], share[1], share[2]
    for k in range(len(slope)):
        _, di, dj, dk = read_slopes(values, corner[k], step, fi[k], fj[k], fk[k])
        g, at, seen = slope[k], real(k), within[k] > zero
        di = g * di if seen and xi[k] > zero and xi[k] < top_i else zero
        dj = g * dj if seen and xj[k] > zero and xj[k] < top_j else zero
        dk = g * dk if seen and xk[k] > zero and xk[k] < top_k else zero
        si += di
        mi += di * at
        sj += dj
        mj += dj * at
        sk += dk
        mk += dk * at
    return (si, mi), (sj, mj), (sk, mk)


@kernel
def _give(
    values: Any, corner: Any, step: Any, share: Any, within: Any, slope: Any, flat: Any
) -> None:
    """Give the voxels around each point their shares of a row's slopes."""
    si, sj, sk = step
    zero = values.dtype.type(0)
    fi, fj, fk = share[0], share[1], share[2]
    if flat:
        for k in range(len(slope)):
            g = slope[k] if within[k] > zero else zero
            _give_plane(values, corner[k], sj, sk, g, fj[k], fk[k])
    else:
        for k in range(len(slope)):
            p, g = corner[k], slope[k] if within[k] > zero else zero
            far = g * fi[k]
            _give_plane(values, p, sj, sk, g - far, fj[k], fk[k])
            _give_plane(values, p + si, sj, sk, far, fj[k], fk[k])


@kernel
def _give_plane(values: Any, p: Any, sj: Any, sk: Any, g: Any, fj: Any, fk: Any) -> None:
    q, far = p + sj, g * fj
    near = g - far
    near_k, far_k = near * fk, far * fk
    values[p] += near - near_k
    values[q] += far - far_k
    values[p + sk] += near_k
    values[q + sk] += far_k


# -- on tensors ------------------------------------------------------------------------------------


def sample_affine(image: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """Images at the voxels of lattices. See `stn3d.kernels`."""
    batch = max(len(image), len(matrix))
    out = image.new_empty(batch, image.shape[1], *shape)
    target = batch_of(out)
    rows = batch * target.shape[2] * target.shape[3]
    run(lattice_rows, rows, batch_of(image), *_lattices(matrix, shape), target)
    return out


def affine_back(
    image: Tensor, matrix: Tensor, gradient: Tensor, by_image: bool, by_matrix: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Derivatives by the images and by the matrices from those by the values, as wanted."""
    slopes, images, d = batch_of(gradient), batch_of(image), image.ndim - 2
    batch = len(slopes)
    shares = -(-4 // batch)  # summed apart, then in order: threads do not change the sums
    to_matrix = np.zeros((batch, shares if by_matrix else 0, 3, 4))
    to_image = torch.zeros(batch, shares if by_image else 0, *images.shape[1:], dtype=image.dtype)
    targets = to_matrix, to_image.numpy()
    run(lattice_back, batch * shares, images, *_lattices(matrix, gradient.shape), slopes, *targets)
    back: list[Tensor | None] = [None, None]
    if by_image:
        total = to_image.sum(dim=1) if shares > 1 else to_image[:, 0]
        back[0] = total.reshape(batch, *image.shape[1:]).sum_to_size(image.shape)
    if by_matrix:
        square = torch.zeros(batch, d + 1, d + 1, dtype=torch.float64)
        square[:, :-1] = torch.from_numpy(to_matrix.sum(axis=1)[:, 3 - d :, 3 - d :])
        back[1] = square.sum_to_size(matrix.shape).to(matrix.dtype)
    return back[0], back[1]


def _lattices(matrix: Tensor, shape: Sequence[int]) -> tuple[Array, bool, int]:
    """``(B, 3, 4)`` matrices, whether they are of 2D images, and how long rows are.

    In 2D a matrix's first row and column are the identity's.
    """
    d = matrix.shape[-1] - 1
    full = torch.eye(3, 4, dtype=torch.float64).repeat(len(matrix), 1, 1)
    full[:, 3 - d :, 3 - d :] = matrix.detach()[:, :-1]
    return full.numpy(), d == 2, -(-shape[-1] // _LANES) * _LANES
