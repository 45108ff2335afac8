"""Rows of output voxels: where each lies in the image, through a displacement field.

Coordinates of a row are doubles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.common.interpolation import interpolate, lerp, locate, steps
from stn3d.kernels.common.jit import kernel
from stn3d.kernels.common.tensors import Array, as_matrix, three_axes, volumes
from stn3d.kernels.resample.shift import whole_shift
from stn3d.kernels.resample.types import Displacement


class Path(NamedTuple):
    """Output voxels to image indices: ``matrix x + linear vectors(to_vectors x)``.

    Args:
        matrix: ``(3, 4)``; output rows run along the image's last axis if the first two elements
            of its third column are 0.
        vectors: ``(d, I', J', K')``; no channels without a displacement.
        to_vectors: ``(3, 4)``, the field's indices from output indices.
        shift: the whole voxels of ``to_vectors`` if it is such a shift, else empty.
        linear: ``(3, d)``, image voxels from the unit of the vectors.
    """

    matrix: Array
    vectors: Array
    to_vectors: Array
    shift: Array
    linear: Array


def path_of(
    matrix: Tensor, shape: Sequence[int], displacement: Displacement | None, dtype: torch.dtype
) -> Path:
    """The arguments of `resample` as the kernels take them.

    Args:
        matrix: ``(d + 1, d + 1)`` homogeneous, image indices from output indices.
        shape: output shape.
        displacement: displacement of the sampled points.
        dtype: dtype of the vectors where there are none.
    """
    at = _without_tilt(matrix, shape)
    if displacement is None:
        none = torch.empty(0, 1, 1, 1, dtype=dtype).numpy()
        return Path(at, none, at, np.array([], np.int64), np.zeros((3, 0)))
    vectors, shift = volumes(displacement.vectors), whole_shift(displacement.matrix, shape)
    linear = np.zeros((3, len(vectors)))
    linear[3 - len(vectors) :] = displacement.linear.detach().double().cpu().numpy()
    whole = np.array([] if shift is None else three_axes(shift, 0), np.int64)
    return Path(at, vectors, _without_tilt(displacement.matrix, shape), whole, linear)


def _without_tilt(matrix: Tensor, shape: Sequence[int]) -> Array:
    """``(3, 4)``; elements that tilt rows by rounding errors only are set to 0."""
    at = as_matrix(matrix, torch.float64)
    across = at[:2, 2]
    across[np.abs(across) * shape[-1] < 1e-9] = 0
    return at


@kernel
def _points_of_row(matrix: Any, i: Any, j: Any, x: Any) -> None:
    """``matrix x`` for the voxels of a row, ``(3, K)``."""
    for axis in range(3):
        origin = matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 3]
        step, row = matrix[axis, 2], x[axis]
        for k in range(len(row)):
            row[k] = origin + step * k


@kernel
def interpolate_row(
    values: Any, corner: Any, step: Any, fraction: Any, within: Any, outside: Any, out: Any
) -> None:
    """Interpolate at a row of located points; ``outside`` beyond the domain."""
    fi, fj, fk = fraction[0], fraction[1], fraction[2]
    for k in range(len(out)):
        value = interpolate(values, corner[k], step, fi[k], fj[k], fk[k])
        out[k] = value if within[k] > 0 else outside


@kernel
def interpolate_straight_row(
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
    """`interpolate_row` for points along the last axis: four rows become one ``line``."""
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
def scratch(count: Any, vectors: Any) -> Any:
    """Buffers of `mapped_row` for rows of ``count`` voxels: points, cells, a move, a line."""
    real = vectors.dtype
    y, fraction = np.empty((3, count), np.float64), np.empty((3, count), real)
    within, index = np.empty(count, real), np.empty(count, np.int32)
    return y, index, fraction, within, np.empty(count, real), np.empty(vectors.shape[3], real)


@kernel
def mapped_row(i: Any, j: Any, path: Any, buffers: Any, x: Any) -> None:
    """Image indices ``(3, K)`` of the voxels of row (i, j), see `Path`."""
    matrix, vectors, to_vectors, shift, linear = path
    y, index, fraction, within, move, line = buffers
    _points_of_row(matrix, i, j, x)
    own, still = vectors.shape[1:], vectors.dtype.type(0)
    step, corner = steps(own), index.view(np.uint32)
    straight = to_vectors[0, 2] == 0 and to_vectors[1, 2] == 0
    if len(vectors) > 0 and len(shift) == 0:
        _points_of_row(to_vectors, i, j, y)
        locate(y, own, index, fraction, within)
    for c in range(len(vectors)):
        values = vectors[c].ravel()
        if len(shift) > 0:
            _shifted_row(vectors[c], i + shift[0], j + shift[1], shift[2], move)
        elif straight:
            interpolate_straight_row(
                values, own[2], corner, step, fraction, within, still, line, move
            )
        else:
            interpolate_row(values, corner, step, fraction, within, still, move)
        for axis in range(3):
            row, factor = x[axis], linear[axis, c]
            for k in range(len(row)):
                row[k] += factor * move[k]
