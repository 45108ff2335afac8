"""Sampling of a batch of images on grids given by one matrix each, with exact gradients by both.

The points of the grids are never stored: for a batch of small images this would take longer than
the interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stn3d.kernels.common.interpolation import (
    gradient_2d,
    interpolate,
    interpolate_2d,
    interpolate_gradient,
    locate,
    locate_2d,
    steps,
)
from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import Array, batches

_LANES = 16  # rows are padded to whole vector registers; values beyond their end are not used


@kernel
def _points_of_row(matrix: Any, i: Any, j: Any, x: Any) -> None:
    """``matrix x`` for the voxels of a row, ``(3, K)``, in the dtype of ``x``."""
    real = x.dtype.type
    for axis in range(3):
        origin = real(matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 3])
        step, row = real(matrix[axis, 2]), x[axis]
        for k in range(len(row)):
            row[k] = origin + step * real(k)


@kernel
def _locate(x: Any, shape: Any, flat: Any, index: Any, fraction: Any, within: Any) -> None:
    if flat:
        locate_2d(x, shape, index, fraction, within)
    else:
        locate(x, shape, index, fraction, within)


@kernel
def sample_rows(
    first: int, last: int, images: Any, matrices: Any, flat: Any, length: Any, out: Any
) -> None:
    """``out`` ``(B, C, I, J, K)``: images ``(B or 1, C, ...)`` by matrices ``(B or 1, 3, 4)``.

    Tasks are rows, numbered ``(b I + i) J + j``; a row has ``length`` points, K or more. ``flat``
    is true for 2D images.
    """
    shape, ni, nj, nk = images.shape[2:], out.shape[2], out.shape[3], out.shape[4]
    step, zero = steps(shape), images.dtype.type(0)
    x, fraction = np.empty((3, length), images.dtype), np.empty((3, length), images.dtype)
    within, index = np.empty(length, images.dtype), np.empty(length, np.int32)
    corner = index.view(np.uint32)
    fi, fj, fk = fraction[0], fraction[1], fraction[2]
    for task in range(first, last):
        b, i, j = task // (ni * nj), task // nj % ni, task % nj
        _points_of_row(matrices[b % len(matrices)], i, j, x)
        _locate(x, shape, flat, index, fraction, within)
        for c in range(out.shape[1]):
            values, row = images[b % len(images), c].ravel(), out[b, c, i, j]
            if flat:
                for k in range(nk):
                    value = interpolate_2d(values, corner[k], step, fj[k], fk[k])
                    row[k] = value if within[k] > zero else zero
            else:
                for k in range(nk):
                    value = interpolate(values, corner[k], step, fi[k], fj[k], fk[k])
                    row[k] = value if within[k] > zero else zero


@kernel
def gradient_parts(
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
    """Gradients with respect to matrices and images, from the gradient ``(B, C, I, J, K)``.

    They are added to ``by_matrix`` ``(B, S, 3, 4)`` and ``by_image`` ``(B, S, C, I, J, K)``; S = 0
    skips one of them. The rows of an item are divided into S parts with separate sums; part s of
    item b is task ``b S + s``.
    """
    shape, ni, nj = images.shape[2:], gradient.shape[2], gradient.shape[3]
    step, top = steps(shape), (shape[0] - 1, shape[1] - 1, shape[2] - 1)
    x, fraction = np.empty((3, length), images.dtype), np.empty((3, length), images.dtype)
    within, index = np.empty(length, images.dtype), np.empty(length, np.int32)
    corner = index.view(np.uint32)
    parts = max(by_matrix.shape[1], by_image.shape[1])
    for task in range(first, last):
        b, s = task // parts, task % parts
        for row in range(ni * nj * s // parts, ni * nj * (s + 1) // parts):
            i, j = row // nj, row % nj
            _points_of_row(matrices[b % len(matrices)], i, j, x)
            _locate(x, shape, flat, index, fraction, within)
            for c in range(gradient.shape[1]):
                upstream = gradient[b, c, i, j]
                if by_matrix.shape[1] > 0:
                    values, part = images[b % len(images), c].ravel(), by_matrix[b, s]
                    if flat:
                        sums = _sums_2d(values, corner, step, x, fraction, within, upstream, top)
                    else:
                        sums = _sums_3d(values, corner, step, x, fraction, within, upstream, top)
                    for axis in range(3):
                        count, moment = sums[axis]
                        part[axis, 0] += count * i
                        part[axis, 1] += count * j
                        part[axis, 2] += moment
                        part[axis, 3] += count
                if by_image.shape[1] > 0:
                    target = by_image[b, s, c].ravel()
                    _scatter_row(target, corner, step, fraction, within, upstream, flat)


@kernel
def _sums_2d(
    values: Any, corner: Any, step: Any, x: Any, fraction: Any, within: Any, upstream: Any, top: Any
) -> Any:
    """For each axis the sums over a row of the gradient by the point, and of this gradient times k.

    The gradient is 0 in the outer half voxel and along an axis of one voxel.
    """
    real = x.dtype.type
    zero, top_j, top_k = real(0), real(top[1]), real(top[2])
    sj, mj, sk, mk = zero, zero, zero, zero
    xj, xk, fj, fk = x[1], x[2], fraction[1], fraction[2]
    for k in range(len(upstream)):
        dj, dk = gradient_2d(values, corner[k], step, fj[k], fk[k])
        g, at, seen = upstream[k], real(k), within[k] > zero
        dj = g * dj if seen and xj[k] > zero and xj[k] < top_j else zero
        dk = g * dk if seen and xk[k] > zero and xk[k] < top_k else zero
        sj += dj
        mj += dj * at
        sk += dk
        mk += dk * at
    return (zero, zero), (sj, mj), (sk, mk)


@kernel
def _sums_3d(
    values: Any, corner: Any, step: Any, x: Any, fraction: Any, within: Any, upstream: Any, top: Any
) -> Any:
    """`_sums_2d` for a volume."""
    real = x.dtype.type
    zero, top_i, top_j, top_k = real(0), real(top[0]), real(top[1]), real(top[2])
    si, mi, sj, mj, sk, mk = zero, zero, zero, zero, zero, zero
    xi, xj, xk = x[0], x[1], x[2]
    fi, fj, fk = fraction[0], fraction[1], fraction[2]
    for k in range(len(upstream)):
        _, di, dj, dk = interpolate_gradient(values, corner[k], step, fi[k], fj[k], fk[k])
        g, at, seen = upstream[k], real(k), within[k] > zero
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
def _scatter_row(
    values: Any, corner: Any, step: Any, fraction: Any, within: Any, upstream: Any, flat: Any
) -> None:
    """Add a row's gradient to the voxels around each point, weighted as in the interpolation."""
    si, sj, sk = step
    zero = values.dtype.type(0)
    fi, fj, fk = fraction[0], fraction[1], fraction[2]
    if flat:
        for k in range(len(upstream)):
            g = upstream[k] if within[k] > zero else zero
            _scatter_2d(values, corner[k], sj, sk, g, fj[k], fk[k])
    else:
        for k in range(len(upstream)):
            p, g = corner[k], upstream[k] if within[k] > zero else zero
            far = g * fi[k]
            _scatter_2d(values, p, sj, sk, g - far, fj[k], fk[k])
            _scatter_2d(values, p + si, sj, sk, far, fj[k], fk[k])


@kernel
def _scatter_2d(values: Any, p: Any, sj: Any, sk: Any, g: Any, fj: Any, fk: Any) -> None:
    """Add ``g`` to the four voxels of a cell in a plane; no branches, which would be slower."""
    q, far = p + sj, g * fj
    near = g - far
    near_k, far_k = near * fk, far * fk
    values[p] += near - near_k
    values[q] += far - far_k
    values[p + sk] += near_k
    values[q + sk] += far_k


def sample_affine(image: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """Sample row by row; differentiable once."""
    return _SampleAffine.apply(image, matrix, tuple(shape))


class _SampleAffine(torch.autograd.Function):
    """Sampling with its gradients with respect to images and matrices."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(image, matrix)
        return _sample(image, matrix, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        image, matrix = ctx.saved_tensors
        by_image, by_matrix, _ = ctx.needs_input_grad
        return *_gradients(image, matrix, gradient, by_image, by_matrix), None


def _sample(image: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
    batch = max(len(image), len(matrix))
    out = image.new_empty(batch, image.shape[1], *shape)
    target = batches(out)
    rows = batch * target.shape[2] * target.shape[3]
    run(sample_rows, rows, batches(image), *_matrices(matrix, shape), target)
    return out


def _gradients(
    image: Tensor, matrix: Tensor, gradient: Tensor, by_image: bool, by_matrix: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients with respect to images and matrices, each if requested."""
    upstream, images, d = batches(gradient), batches(image), image.ndim - 2
    batch = len(upstream)
    parts = -(-4 // batch)  # summed separately, then in order: independent of the threads
    to_matrix = np.zeros((batch, parts if by_matrix else 0, 3, 4))
    to_image = torch.zeros(batch, parts if by_image else 0, *images.shape[1:], dtype=image.dtype)
    targets = to_matrix, to_image.numpy()
    grids = _matrices(matrix, gradient.shape)
    run(gradient_parts, batch * parts, images, *grids, upstream, *targets)
    back: list[Tensor | None] = [None, None]
    if by_image:
        total = to_image.sum(dim=1) if parts > 1 else to_image[:, 0]
        back[0] = total.reshape(batch, *image.shape[1:]).sum_to_size(image.shape)
    if by_matrix:
        square = torch.zeros(batch, d + 1, d + 1, dtype=torch.float64)
        square[:, :-1] = torch.from_numpy(to_matrix.sum(axis=1)[:, 3 - d :, 3 - d :])
        back[1] = square.sum_to_size(matrix.shape).to(matrix.dtype)
    return back[0], back[1]


def _matrices(matrix: Tensor, shape: Sequence[int]) -> tuple[Array, bool, int]:
    """``(B, 3, 4)`` matrices, whether the images are 2D, and the padded length of a row.

    In 2D the first row and column are those of the identity.
    """
    d = matrix.shape[-1] - 1
    full = torch.eye(3, 4, dtype=torch.float64).repeat(len(matrix), 1, 1)
    full[:, 3 - d :, 3 - d :] = matrix.detach()[:, :-1]
    return full.numpy(), d == 2, -(-shape[-1] // _LANES) * _LANES
