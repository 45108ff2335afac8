"""Reading a volume at the voxels of a grid, maybe moved by a field on a grid of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.cpu.interpolation import between, locate, read, steps
from stn3d.kernels.cpu.jit import kernel, run
from stn3d.kernels.cpu.tensors import Array, as_matrix, three, volumes
from stn3d.kernels.reference import Moves, whole_shift


@kernel
def _lattice_row(matrix: Any, i: Any, j: Any, x: Any) -> None:
    """``matrix x`` for the voxels of a row, ``(3, K)``."""
    for axis in range(3):
        origin = matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 3]
        step, row = matrix[axis, 2], x[axis]
        for k in range(len(row)):
            row[k] = origin + step * k


@kernel
def _read_row(
    values: Any, corner: Any, step: Any, share: Any, within: Any, outside: Any, out: Any
) -> None:
    fi, fj, fk = share[0], share[1], share[2]
    for k in range(len(out)):
        value = read(values, corner[k], step, fi[k], fj[k], fk[k])
        out[k] = value if within[k] > 0 else outside


@kernel
def _read_straight_row(
    values: Any,
    nk: Any,
    corner: Any,
    step: Any,
    share: Any,
    within: Any,
    outside: Any,
    line: Any,
    out: Any,
) -> None:
    """`_read_row` of points along the last axis: four rows become one ``line`` ``(nk,)`` first."""
    si, sj, sk = step
    fi, fj, fk = share[0, 0], share[1, 0], share[2]
    first = corner[0] - corner[0] % np.uint32(nk)
    a, b = values[first:], values[first + sj :]
    c, d = values[first + si :], values[first + si + sj :]
    for k in range(nk):
        line[k] = between(between(a[k], b[k], fj), between(c[k], d[k], fj), fi)
    for k in range(len(out)):
        p = corner[k] - first
        out[k] = between(line[p], line[p + sk], fk[k]) if within[k] > 0 else outside


@kernel
def _shifted_row(volume: Any, i: Any, j: Any, start: Any, out: Any) -> None:
    """The voxels of row (i, j) from ``start`` on; 0 beyond the volume."""
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
    """``out(x) = image(matrix x + linear vectors(to_vectors x))``; ``outside`` beyond its faces.

    Images ``(C, I, J, K)``; ``vectors`` too, of d channels or, where there are none, of no channel.
    If ``to_vectors`` is but a shift by whole voxels, these are ``shift``; else that is empty. A
    matrix whose rows run along the last axis has zeros in the first two places of its third column.
    """
    shape, own = image.shape[1:], vectors.shape[1:]
    step, own_step = steps(shape), steps(own)
    nj, nk = out.shape[2], out.shape[3]
    x, y = np.empty((3, nk), matrix.dtype), np.empty((3, nk), matrix.dtype)
    share, within = np.empty((3, nk), image.dtype), np.empty(nk, image.dtype)
    index, move = np.empty(nk, np.int32), np.empty(nk, vectors.dtype)
    line, own_line = np.empty(shape[2], image.dtype), np.empty(own[2], vectors.dtype)
    corner, still = index.view(np.uint32), vectors.dtype.type(0)
    straight = len(vectors) == 0 and matrix[0, 2] == 0 and matrix[1, 2] == 0
    own_straight = to_vectors[0, 2] == 0 and to_vectors[1, 2] == 0
    for i in range(first, last):
        for j in range(nj):
            _lattice_row(matrix, i, j, x)
            if len(vectors) > 0 and len(shift) == 0:
                _lattice_row(to_vectors, i, j, y)
                locate(y, own, index, share, within)
            for c in range(len(vectors)):
                values = vectors[c].ravel()
                if len(shift) > 0:
                    _shifted_row(vectors[c], i + shift[0], j + shift[1], shift[2], move)
                elif own_straight:
                    _read_straight_row(
                        values, own[2], corner, own_step, share, within, still, own_line, move
                    )
                else:
                    _read_row(values, corner, own_step, share, within, still, move)
                for axis in range(3):
                    row, factor = x[axis], linear[axis, c]
                    for k in range(nk):
                        row[k] += factor * move[k]
            locate(x, shape, index, share, within)
            for c in range(len(image)):
                values, into = image[c].ravel(), out[c, i, j]
                if straight:
                    _read_straight_row(
                        values, shape[2], corner, step, share, within, outside, line, into
                    )
                else:
                    _read_row(values, corner, step, share, within, outside, into)


# -- on tensors ------------------------------------------------------------------------------------


def resample(
    image: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    moves: Moves | None,
    outside_value: float,
) -> Tensor:
    """An image at the voxels of a grid. See `stn3d.kernels`."""
    source, out = volumes(image), image.new_empty(1, image.shape[1], *shape)
    at = _straightened(matrix, shape)
    vectors, to_vectors, shift, linear = source[:0], at, None, np.zeros((3, 0))
    if moves is not None:
        vectors, to_vectors = volumes(moves.vectors), _straightened(moves.matrix, shape)
        shift = whole_shift(moves.matrix, shape)
        linear = np.zeros((3, len(vectors)))
        linear[3 - len(vectors) :] = moves.linear.detach().double().cpu().numpy()
    whole = np.array([] if shift is None else three(shift, 0), np.int64)
    options = vectors, to_vectors, whole, linear, source.dtype.type(outside_value)
    target = volumes(out)
    run(resample_planes, target.shape[1], source, at, *options, target)
    return out


def _straightened(matrix: Tensor, shape: Sequence[int]) -> Array:
    """``(3, 4)``; rows that lean by no more than rounding errors do not lean."""
    at = as_matrix(matrix, torch.float64)
    across = at[:2, 2]
    across[np.abs(across) * shape[-1] < 1e-9] = 0
    return at
