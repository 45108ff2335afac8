"""Trilinear reading: an image through a matrix and a displacement, with its gradient; composition.

Volumes are ``(I, J, K)``, fields ``(3, I, J, K)`` in voxels; a 2D image has I = 1. Between voxel
centres values are linear, in the outer half voxel constant, beyond the outer faces 0.

A row of K points is worked on at a time: where they lie (`locate`, which fills vector registers),
then the reads, one voxel after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stn3d.kernels.cpu.jit import kernel


@kernel
def steps(shape: Any) -> Any:
    """Flat strides to the next voxel along each axis; 0 along an axis of one voxel."""
    ni, nj, nk = shape
    return (
        np.uint32(nj * nk if ni > 1 else 0),
        np.uint32(nk if nj > 1 else 0),
        np.uint32(1 if nk > 1 else 0),
    )


@kernel
def _locate_axis(
    x: Any, n: Any, stride: Any, index: Any, share: Any, within: Any, real: Any
) -> None:
    """One axis of `locate`."""
    # The lower voxel is at most the last but one, so that the far face needs no care. A coordinate
    # that is no number becomes 0, as max and min take the second only where it is truly beyond.
    zero, one, half = real(0), real(1), real(0.5)
    top, low = real(n - 1), real(max(n - 2, 0))
    for k in range(len(index)):
        clamped = min(max(zero, x[k]), top)
        whole = np.floor(min(clamped, low))
        share[k] = clamped - whole
        index[k] += np.int32(whole) * stride
        within[k] *= one if (x[k] >= -half and x[k] < top + half) else zero


@kernel
def locate(x: Any, shape: Any, index: Any, share: Any, within: Any) -> None:
    """The cells of points ``x`` ``(3, K)``: the flat index of the lower corner, how far along each
    axis the point lies from there, ``(3, K)``, and 1 inside the image's outer faces, else 0. As
    many points as ``index`` has room for; the others are left as they are."""
    real = share.dtype.type
    _, nj, nk = shape
    for k in range(len(index)):
        index[k] = 0
        within[k] = real(1)
    _locate_axis(x[0], shape[0], np.int32(nj * nk), index, share[0], within, real)
    _locate_axis(x[1], shape[1], np.int32(nk), index, share[1], within, real)
    _locate_axis(x[2], shape[2], np.int32(1), index, share[2], within, real)


@kernel
def _between(low: Any, high: Any, share: Any) -> Any:
    return low + share * (high - low)


@kernel
def read(values: Any, p: Any, step: Any, fi: Any, fj: Any, fk: Any) -> Any:
    """The value between the eight voxels from flat index ``p`` on."""
    si, sj, sk = step
    q, r, s = p + sj, p + si, p + si + sj
    near = _between(
        _between(values[p], values[p + sk], fk), _between(values[q], values[q + sk], fk), fj
    )
    far = _between(
        _between(values[r], values[r + sk], fk), _between(values[s], values[s + sk], fk), fj
    )
    return _between(near, far, fi)


@kernel
def read_slopes(values: Any, p: Any, step: Any, fi: Any, fj: Any, fk: Any) -> Any:
    """The value between eight voxels and its derivatives along the three axes."""
    si, sj, sk = step
    q, r, s = p + sj, p + si, p + si + sj
    d00, d01 = values[p + sk] - values[p], values[q + sk] - values[q]
    d10, d11 = values[r + sk] - values[r], values[s + sk] - values[s]
    c00, c01 = values[p] + fk * d00, values[q] + fk * d01
    c10, c11 = values[r] + fk * d10, values[s] + fk * d11
    near, far = _between(c00, c01, fj), _between(c10, c11, fj)
    along_j = _between(c01 - c00, c11 - c10, fi)
    along_k = _between(_between(d00, d01, fj), _between(d10, d11, fj), fi)
    return _between(near, far, fi), far - near, along_j, along_k


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
def _moves_row(step: Any, scale: Any, velocity: Any, keep: Any, most: Any, move: Any) -> None:
    """``scale step``, and what is kept of a velocity if there is one, which becomes the sum.

    Vectors ``(3, n)`` of which the squared length is above ``most`` are cut.
    """
    one = move.dtype.type(1)
    for axis in range(3):
        s, m = step[axis], move[axis]
        for k in range(len(m)):
            m[k] = scale * s[k]
        if velocity is not None:
            v = velocity[axis]
            for k in range(len(m)):
                m[k] += keep * v[k]
            for k in range(len(m)):
                v[k] = m[k]
    a, b, c = move[0], move[1], move[2]
    for k in range(len(a)):
        square = a[k] * a[k] + b[k] * b[k] + c[k] * c[k]
        cut = np.sqrt(most / square) if square > most else one
        a[k], b[k], c[k] = cut * a[k], cut * b[k], cut * c[k]


@kernel
def compose_planes(
    first: int,
    last: int,
    steps_vox: Any,
    scale: Any,
    limit: Any,
    velocity: Any,
    keep: Any,
    field: Any,
    runs: Any,
    out: Any,
) -> None:
    """``out(x) = s(x) + field(x + s(x))`` at the voxels of runs, for s as `_moves_row` finds it.

    ``out`` may be ``steps_vox``. Beyond its faces the field is 0.
    """
    real = field.dtype.type
    shape = field.shape[1:]
    nk = shape[2]
    step, most = steps(shape), limit * limit
    f0, f1, f2 = field[0].ravel(), field[1].ravel(), field[2].ravel()
    points, shares = np.empty((3, nk), field.dtype), np.empty((3, nk), field.dtype)
    moves, insides = np.empty((3, nk), field.dtype), np.empty(nk, field.dtype)
    indices = np.empty(nk, np.int32)
    for i in range(first, last):
        for j in range(shape[1]):
            start, end = runs[i, j, 0], runs[i, j, 1]
            n = end - start
            if n <= 0:
                continue
            x, share, move = points[:, :n], shares[:, :n], moves[:, :n]
            within, index = insides[:n], indices[:n]
            corner = index.view(np.uint32)
            xi, xj, xk = x[0], x[1], x[2]
            mi, mj, mk = move[0], move[1], move[2]
            fi, fj, fk = share[0], share[1], share[2]
            kept = None if velocity is None else velocity[:, i, j, start:end]
            _moves_row(steps_vox[:, i, j, start:end], scale, kept, keep, most, move)
            for k in range(n):
                xi[k] = real(i) + mi[k]
            for k in range(n):
                xj[k] = real(j) + mj[k]
            for k in range(n):
                xk[k] = real(start + k) + mk[k]
            locate(x, shape, index, share, within)
            o0, o1, o2 = out[0, i, j, start:end], out[1, i, j, start:end], out[2, i, j, start:end]
            for k in range(n):
                p, w = corner[k], within[k]
                o0[k] = mi[k] + w * read(f0, p, step, fi[k], fj[k], fk[k])
                o1[k] = mj[k] + w * read(f1, p, step, fi[k], fj[k], fk[k])
                o2[k] = mk[k] + w * read(f2, p, step, fi[k], fj[k], fk[k])


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
        line[k] = _between(_between(a[k], b[k], fj), _between(c[k], d[k], fj), fi)
    for k in range(len(out)):
        p = corner[k] - first
        out[k] = _between(line[p], line[p + sk], fk[k]) if within[k] > 0 else outside


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
