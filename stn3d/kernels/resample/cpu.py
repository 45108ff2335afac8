"""Resampling of a volume through a matrix and an optional displacement field, row by row.

Image and field are interpolated in one pass; the coordinates of a row are doubles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.common.dispatch import needs_gradient
from stn3d.kernels.common.interpolation import interpolate, lerp, locate, steps
from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import Array, as_matrix, three_axes, volumes
from stn3d.kernels.resample import reference
from stn3d.kernels.resample.shift import whole_shift
from stn3d.kernels.resample.types import Displacement
from stn3d.kernels.sample_linear import sample_linear


@kernel
def _points_of_row(matrix: Any, i: Any, j: Any, x: Any) -> None:
    """``matrix x`` for the voxels of a row, ``(3, K)``."""
    for axis in range(3):
        origin = matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 3]
        step, row = matrix[axis, 2], x[axis]
        for k in range(len(row)):
            row[k] = origin + step * k


@kernel
def _interpolate_row(
    values: Any, corner: Any, step: Any, fraction: Any, within: Any, outside: Any, out: Any
) -> None:
    """Interpolate at a row of located points; ``outside`` beyond the domain."""
    fi, fj, fk = fraction[0], fraction[1], fraction[2]
    for k in range(len(out)):
        value = interpolate(values, corner[k], step, fi[k], fj[k], fk[k])
        out[k] = value if within[k] > 0 else outside


@kernel
def _interpolate_straight_row(
    values: Any,
    nk: Any,
    corner: Any,
    step: Any,
    fraction: Any,
    within: Any,
    outside: Any,
    line: Any,
    out: Any,
) -> None:
    """`_interpolate_row` for points along the last axis: four rows become one ``line``."""
    si, sj, sk = step
    fi, fj, fk = fraction[0, 0], fraction[1, 0], fraction[2]
    first = corner[0] - corner[0] % np.uint32(nk)
    a, b = values[first:], values[first + sj :]
    c, d = values[first + si :], values[first + si + sj :]
    for k in range(nk):
        line[k] = lerp(lerp(a[k], b[k], fj), lerp(c[k], d[k], fj), fi)
    for k in range(len(out)):
        p = corner[k] - first
        out[k] = lerp(line[p], line[p + sk], fk[k]) if within[k] > 0 else outside


@kernel
def _shifted_row(volume: Any, i: Any, j: Any, start: Any, out: Any) -> None:
    """The voxels of row (i, j) starting at ``start``; 0 beyond the volume."""
    zero = out.dtype.type(0)
    ni, nj, nk = volume.shape
    for k in range(len(out)):
        out[k] = zero
    if 0 <= i < ni and 0 <= j < nj:
        first, last = max(0, -start), min(len(out), nk - start)
        line, part = volume[i, j, start + first :], out[first:last]
        for k in range(len(part)):
            part[k] = line[k]


@kernel
def resample_planes(
    first: int,
    last: int,
    image: Any,
    matrix: Any,
    vectors: Any,
    to_vectors: Any,
    shift: Any,
    linear: Any,
    outside: Any,
    out: Any,
) -> None:
    """``out(x) = image(matrix x + linear vectors(to_vectors x))``; ``outside`` beyond the domain.

    Args:
        image: ``(C, I, J, K)``.
        matrix: ``(3, 4)``; output rows run along the image's last axis if the first two elements
            of its third column are 0.
        vectors: ``(d, I', J', K')``; no channels without a displacement.
        to_vectors: ``(3, 4)``, the field's indices from output indices.
        shift: the whole voxels of ``to_vectors`` if it is such a shift, else empty.
        linear: ``(3, d)``, image voxels from the unit of the vectors.
        out: ``(C, *wanted)``.
    """
    shape, own = image.shape[1:], vectors.shape[1:]
    step, own_step = steps(shape), steps(own)
    nj, nk = out.shape[2], out.shape[3]
    x, y = np.empty((3, nk), matrix.dtype), np.empty((3, nk), matrix.dtype)
    fraction, within = np.empty((3, nk), image.dtype), np.empty(nk, image.dtype)
    index, move = np.empty(nk, np.int32), np.empty(nk, vectors.dtype)
    line, own_line = np.empty(shape[2], image.dtype), np.empty(own[2], vectors.dtype)
    corner, still = index.view(np.uint32), vectors.dtype.type(0)
    straight = len(vectors) == 0 and matrix[0, 2] == 0 and matrix[1, 2] == 0
    own_straight = to_vectors[0, 2] == 0 and to_vectors[1, 2] == 0
    for i in range(first, last):
        for j in range(nj):
            _points_of_row(matrix, i, j, x)
            if len(vectors) > 0 and len(shift) == 0:
                _points_of_row(to_vectors, i, j, y)
                locate(y, own, index, fraction, within)
            for c in range(len(vectors)):
                values = vectors[c].ravel()
                if len(shift) > 0:
                    _shifted_row(vectors[c], i + shift[0], j + shift[1], shift[2], move)
                elif own_straight:
                    _interpolate_straight_row(
                        values, own[2], corner, own_step, fraction, within, still, own_line, move
                    )
                else:
                    _interpolate_row(values, corner, own_step, fraction, within, still, move)
                for axis in range(3):
                    row, factor = x[axis], linear[axis, c]
                    for k in range(nk):
                        row[k] += factor * move[k]
            locate(x, shape, index, fraction, within)
            for c in range(len(image)):
                values, into = image[c].ravel(), out[c, i, j]
                if straight:
                    _interpolate_straight_row(
                        values, shape[2], corner, step, fraction, within, outside, line, into
                    )
                else:
                    _interpolate_row(values, corner, step, fraction, within, outside, into)


def resample(
    image: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    displacement: Displacement | None,
    outside_value: float,
) -> Tensor:
    """Resample plane by plane; where gradients are needed, as the reference by `sample_linear`."""
    if needs_gradient(image, matrix, *(displacement or ())):
        return reference.resample(image, matrix, shape, displacement, outside_value, sample_linear)
    return _resample(image, matrix, shape, displacement, outside_value)


def _resample(
    image: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    displacement: Displacement | None,
    outside_value: float,
) -> Tensor:
    source, out = volumes(image), image.new_empty(1, image.shape[1], *shape)
    at = _without_tilt(matrix, shape)
    vectors, to_vectors, shift, linear = source[:0], at, None, np.zeros((3, 0))
    if displacement is not None:
        vectors = volumes(displacement.vectors)
        to_vectors = _without_tilt(displacement.matrix, shape)
        shift = whole_shift(displacement.matrix, shape)
        linear = np.zeros((3, len(vectors)))
        linear[3 - len(vectors) :] = displacement.linear.detach().double().cpu().numpy()
    whole = np.array([] if shift is None else three_axes(shift, 0), np.int64)
    options = vectors, to_vectors, whole, linear, source.dtype.type(outside_value)
    target = volumes(out)
    run(resample_planes, target.shape[1], source, at, *options, target)
    return out


def _without_tilt(matrix: Tensor, shape: Sequence[int]) -> Array:
    """``(3, 4)``; elements that tilt rows by rounding errors only are set to 0."""
    at = as_matrix(matrix, torch.float64)
    across = at[:2, 2]
    across[np.abs(across) * shape[-1] < 1e-9] = 0
    return at
