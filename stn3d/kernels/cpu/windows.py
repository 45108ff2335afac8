"""Box sums and the local correlation with its exact gradient, in one pass over the planes.

Of each plane's products (f, f f, m, ...) the sums over the window's two inner axes go into a ring
of as many planes as the window is thick; the sum over the ring completes a window. The gradient's
coefficients are summed over windows by a second ring, one window behind the first.

Rows are worked on from ``a`` up to ``b``, unsigned: so no index needs a check for being negative,
and loops fill vector registers. Slices of rows would cost as much as the work on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stn3d.kernels.cpu.jit import kernel


@kernel
def _bounds(runs: Any, j: Any) -> Any:
    """Row j's first voxel and end, unsigned."""
    first = max(runs[j, 0], 0)
    return np.uint64(first), np.uint64(max(runs[j, 1], first))


@kernel
def _sum_along(line: Any, radius: Any, a: Any, b: Any, out: Any) -> None:
    """``out[k]`` becomes the sum of ``line[k] ... line[k + 2 radius]``."""
    if radius == 2:  # the usual window in one go
        one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
        for k in range(a, b):
            pairs = (line[k] + line[k + one]) + (line[k + two] + line[k + three])
            out[k] = pairs + line[k + four]
        return
    for k in range(a, b):
        out[k] = line[k]
    for t in range(1, 2 * radius + 1):
        shift = np.uint64(t)
        for k in range(a, b):
            out[k] += line[k + shift]


@kernel
def _sum_of_rows(rows: Any, j: Any, radius: Any, a: Any, b: Any, out: Any) -> None:
    """``out`` becomes the sum of ``rows[j] ... rows[j + 2 radius]``."""
    if radius == 2:
        for k in range(a, b):
            pairs = (rows[j, k] + rows[j + 1, k]) + (rows[j + 2, k] + rows[j + 3, k])
            out[k] = pairs + rows[j + 4, k]
        return
    for k in range(a, b):
        out[k] = rows[j, k]
    for t in range(1, 2 * radius + 1):
        for k in range(a, b):
            out[k] += rows[j + t, k]


@kernel
def _sum_plane(rj: Any, rk: Any, runs: Any, line: Any, rows: Any, out: Any) -> None:
    """Sums over ``2 rj + 1`` by ``2 rk + 1`` voxels of a plane, at its runs ``(J, 2)``.

    Nothing lies beyond the plane's edges.

    Args:
        line: ``(J, K + 2 rk)`` the plane, with ``rk`` zeros at both ends of its rows.
        rows: ``(J + 2 rj, K)`` scratch, with ``rj`` rows of zeros at both ends.
        out: ``(J, K)``.
    """
    for j in range(out.shape[0]):
        a, b = _bounds(runs, j)
        if b > a:
            _sum_along(line[j], rk, a, b, rows[j + rj])
    for j in range(out.shape[0]):
        a, b = _bounds(runs, j)
        if b > a:
            _sum_of_rows(rows, j, rj, a, b, out[j])


@kernel
def _sum_of_ring(ring: Any, slots: Any, j: Any, a: Any, b: Any, out: Any) -> None:
    """A row's sum over the ring's planes that are in use."""
    if len(slots) == 5:
        s0, s1, s2, s3, s4 = slots[0], slots[1], slots[2], slots[3], slots[4]
        for k in range(a, b):
            pairs = (ring[s0, j, k] + ring[s1, j, k]) + (ring[s2, j, k] + ring[s3, j, k])
            out[k] = pairs + ring[s4, j, k]
        return
    s0 = slots[0]
    for k in range(a, b):
        out[k] = ring[s0, j, k]
    for t in range(1, len(slots)):
        s1 = slots[t]
        for k in range(a, b):
            out[k] += ring[s1, j, k]


@kernel
def _slots(centre: Any, radius: Any, planes: Any, slots: Any) -> Any:
    """The ring's planes in the window around a plane, as far as they lie in the volume."""
    low, high = max(centre - radius, 0), min(centre + radius, planes - 1)
    for t in range(low, high + 1):
        slots[t - low] = t % (2 * radius + 1)
    return slots[: high - low + 1]


@kernel
def box_sum_planes(first: int, last: int, volumes: Any, radii: Any, runs: Any, out: Any) -> None:
    """Sums of volumes ``(C, I, J, K)`` over windows, at the voxels of runs ``(I, J, 2)``."""
    channels, ni, nj, nk = volumes.shape
    ri, rj, rk = radii
    rows = np.zeros((nj + 2 * rj, nk), volumes.dtype)
    line = np.zeros((nj, nk + 2 * rk), volumes.dtype)
    shift, zero, end = np.uint64(rk), np.uint64(0), np.uint64(nk)
    for i in range(first, last):
        for c in range(channels):
            line[:] = 0
            for t in range(max(i - ri, 0), min(i + ri, ni - 1) + 1):
                for j in range(nj):
                    for k in range(zero, end):
                        line[j, k + shift] += volumes[c, t, j, k]
            _sum_plane(rj, rk, runs[i], line, rows, out[c, i])


# -- local correlation ----------------------------------------------------------------------------
#
# With n = sum w, means a = sum w f / n, b = sum w m / n, variances A, B and covariance X of a
# window (fixed f, moved m, weights w; w = 1 where there are none), noise e_A, e_B:
#   likeness L = X^2 / ((A + e_A) (B + e_B)), texture T = A / (A + 10 e_A),
#   loss = 1 - sum w T L / sum w T = 1 - P / Q.
# The derivative of P (and of Q) by m(x) is a window sum of coefficients, since sums over windows
# around x gather all windows that contain x (Avants et al. 2008, without their approximation).


@kernel
def _product_row(
    quantity: Any, f: Any, m: Any, weight: Any, a: Any, b: Any, shift: Any, row: Any
) -> None:
    """What is summed over windows: f, f f, m, m m, f m, each times w; and w."""
    if quantity == 0:
        for k in range(a, b):
            row[k + shift] = f[k]
    elif quantity == 1:
        for k in range(a, b):
            row[k + shift] = f[k] * f[k]
    elif quantity == 2:
        for k in range(a, b):
            row[k + shift] = m[k]
    elif quantity == 3:
        for k in range(a, b):
            row[k + shift] = m[k] * m[k]
    elif quantity == 4:
        for k in range(a, b):
            row[k + shift] = f[k] * m[k]
    else:
        for k in range(a, b):
            row[k + shift] = f[k] * 0 + 1
    if weight is not None:
        for k in range(a, b):
            row[k + shift] *= weight[k]


@kernel
def _plain_row(
    sums: Any,
    size: Any,
    sizes_k: Any,
    noise_f: Any,
    noise_m: Any,
    a: Any,
    b: Any,
    shift: Any,
    by_one: Any,
    by_m: Any,
    by_f: Any,
) -> Any:
    """P and Q of a row of windows without weights, and P's coefficients: of 1, m and f."""
    real = sums.dtype.type
    zero, one, two, ten = real(0), real(1), real(2), real(10)
    p, q = zero, zero
    for k in range(a, b):
        share = one / (size * sizes_k[k])
        mean_f, mean_m = sums[0, k] * share, sums[2, k] * share
        var_f = max(sums[1, k] * share - mean_f * mean_f, zero)
        var_m = sums[3, k] * share - mean_m * mean_m
        cross = sums[4, k] * share - mean_f * mean_m
        over_f, over_m = one / (var_f + noise_f), one / (max(var_m, zero) + noise_m)
        texture = var_f / (var_f + ten * noise_f)
        slope = cross * over_f * over_m
        likeness = cross * slope
        p += texture * likeness
        q += texture
        by_cross = two * texture * slope * share
        by_var = -texture * likeness * over_m * share if var_m > zero else zero
        by_f[k + shift] = by_cross
        by_m[k + shift] = two * by_var
        by_one[k + shift] = -(two * mean_m * by_var + mean_f * by_cross)
    return p, q


@kernel
def _weighted_row(
    sums: Any,
    weight: Any,
    ratio: Any,
    noise_f: Any,
    noise_m: Any,
    a: Any,
    b: Any,
    shift: Any,
    out: Any,
    full: Any,
) -> Any:
    """P and Q of a row of windows with weights, and the coefficients of P - ratio Q.

    Of 1, m and f in the derivative by m; if ``full`` also those of 1 and f in that by f (its
    coefficient of m is the one of f by m), of the window's own weight, and of the centre's.
    """
    real = sums.dtype.type
    zero, one, two, ten, least = real(0), real(1), real(2), real(10), real(1e-6)
    p, q = zero, zero
    for k in range(a, b):
        share = one / max(sums[5, k], least)
        mean_f, mean_m = sums[0, k] * share, sums[2, k] * share
        var_f = max(sums[1, k] * share - mean_f * mean_f, zero)
        var_m = sums[3, k] * share - mean_m * mean_m
        cross = sums[4, k] * share - mean_f * mean_m
        over_f, over_m = one / (var_f + noise_f), one / (max(var_m, zero) + noise_m)
        over_t = one / (var_f + ten * noise_f)
        texture = var_f * over_t
        slope = cross * over_f * over_m
        likeness = cross * slope
        w = weight[k]
        p += w * texture * likeness
        q += w * texture
        by_cross = two * w * texture * slope * share
        by_var = -w * texture * likeness * over_m * share if var_m > zero else zero
        out[0, k + shift] = -(two * mean_m * by_var + mean_f * by_cross)
        out[1, k + shift] = two * by_var
        out[2, k + shift] = by_cross
        if full:
            gain = likeness - ratio
            by_var_f = zero
            if var_f > zero:
                by_texture = ten * noise_f * over_t * over_t
                by_var_f = w * (gain * by_texture - texture * likeness * over_f) * share
            out[3, k + shift] = -(two * mean_f * by_var_f + mean_m * by_cross)
            out[4, k + shift] = two * by_var_f
            own = by_cross * (mean_f * mean_m - cross) + by_var_f * (mean_f * mean_f - var_f)
            own += by_var * (mean_m * mean_m - max(var_m, zero))
            out[5, k + shift] = own if sums[5, k] > least else zero
            out[6, k + shift] = texture * gain
    return p, q


@kernel
def _by_moved_row(sums: Any, f: Any, m: Any, weight: Any, a: Any, b: Any, out: Any) -> None:
    """The derivative of P - ratio Q by the moved image, from window sums of the coefficients."""
    for k in range(a, b):
        out[k] = sums[0, k] + m[k] * sums[1, k] + f[k] * sums[2, k]
    if weight is not None:
        for k in range(a, b):
            out[k] *= weight[k]


@kernel
def _by_others_row(
    sums: Any, centre: Any, f: Any, m: Any, w: Any, a: Any, b: Any, by_fixed: Any, by_weight: Any
) -> None:
    """The derivatives by the fixed image and by the weight."""
    half, shift = sums.dtype.type(0.5), np.uint64((centre.shape[0] - f.shape[0]) // 2)
    for k in range(a, b):
        by_fixed[k] = w[k] * (sums[3, k] + f[k] * sums[4, k] + m[k] * sums[2, k])
    for k in range(a, b):
        squares = half * (f[k] * f[k] * sums[4, k] + m[k] * m[k] * sums[1, k])
        straight = sums[5, k] + f[k] * sums[3, k] + m[k] * sums[0, k]
        by_weight[k] = straight + squares + f[k] * m[k] * sums[2, k] + centre[k + shift]


@kernel
def lncc_planes(
    first: int,
    last: int,
    fixed: Any,
    moved: Any,
    weight: Any,
    radii: Any,
    noise_f: Any,
    noise_m: Any,
    ratio: Any,
    sizes_i: Any,
    sizes_j: Any,
    sizes_k: Any,
    windows: Any,
    reached: Any,
    totals: Any,
    by_moved: Any,
    by_fixed: Any,
    by_weight: Any,
) -> None:
    """``totals[i] = (P, Q)`` of each plane; derivatives of P - ratio Q where arrays for them are.

    Args:
        fixed, moved, weight: ``(I, J, K)``; weight may be None.
        radii: half the window along each axis.
        noise_f, noise_m: variances that count as noise.
        ratio: P / Q, if derivatives by fixed and weight are wanted.
        sizes_i, sizes_j, sizes_k: how many voxels a window holds along each axis.
        windows: runs ``(I, J, 2)`` of the windows' centres.
        reached: those of the voxels in these windows, where derivatives are found.
        by_moved: ``(I, J, K)``, or None for the value alone.
        by_fixed, by_weight: the same, or both None; they ask for a weight.
    """
    ni, nj, nk = fixed.shape
    ri, rj, rk = radii
    dtype, depth, shift = fixed.dtype, 2 * ri + 1, np.uint64(rk)
    quantities = 5 if weight is None else 6
    coefficients = 3 if by_fixed is None else 6
    ring = np.zeros((quantities, depth, nj, nk), dtype)
    second = np.zeros((coefficients, depth if by_moved is not None else 0, nj, nk), dtype)
    line = np.zeros((nj, nk + 2 * rk), dtype)
    coefficient = np.zeros((coefficients + 1, nj, nk + 2 * rk), dtype)
    centres = np.zeros((depth if by_fixed is not None else 0, nj, nk + 2 * rk), dtype)
    rows, sums, slots = (
        np.zeros((nj + 2 * rj, nk), dtype),
        np.empty((6, nk), dtype),
        np.empty(depth, np.int64),
    )
    begin = first if by_moved is None else max(first - ri, 0)
    end = last if by_moved is None else min(last + ri, ni)
    for i in range(max(begin - ri, 0), end + 2 * ri):
        if i < min(end + ri, ni):
            for q in range(quantities):
                for j in range(nj):
                    a, b = _bounds(reached[i], j)
                    if b > a:
                        w = None if weight is None else weight[i, j]
                        _product_row(q, fixed[i, j], moved[i, j], w, a, b, shift, line[j])
                _sum_plane(rj, rk, reached[i], line, rows, ring[q, i % depth])
        centre = i - ri
        if begin <= centre < end:
            used = _slots(centre, ri, ni, slots)
            p, q_ = 0.0, 0.0
            for j in range(nj):
                a, b = _bounds(windows[centre], j)
                if b <= a:
                    continue
                for q in range(quantities):
                    _sum_of_ring(ring[q], used, j, a, b, sums[q])
                if weight is None:
                    size = sizes_i[centre] * sizes_j[j]
                    c0, c1, c2 = coefficient[0, j], coefficient[1, j], coefficient[2, j]
                    p_row, q_row = _plain_row(
                        sums, size, sizes_k, noise_f, noise_m, a, b, shift, c0, c1, c2
                    )
                else:
                    w, c = weight[centre, j], coefficient[:, j]
                    p_row, q_row = _weighted_row(
                        sums, w, ratio, noise_f, noise_m, a, b, shift, c, by_fixed is not None
                    )
                p += p_row
                q_ += q_row
            if first <= centre < last:
                totals[centre, 0], totals[centre, 1] = p, q_
            if by_moved is not None:
                slot = centre % depth
                for q in range(coefficients):
                    rows[:] = 0
                    second[q, slot] = 0
                    _sum_plane(rj, rk, reached[centre], coefficient[q], rows, second[q, slot])
                if by_fixed is not None:
                    centres[slot] = coefficient[coefficients]
                for q in range(coefficients + 1):
                    for j in range(nj):
                        coefficient[
                            q, j, windows[centre, j, 0] + rk : windows[centre, j, 1] + rk
                        ] = 0
        behind = i - 2 * ri
        if by_moved is not None and first <= behind < last:
            used = _slots(behind, ri, ni, slots)
            for j in range(nj):
                a, b = _bounds(reached[behind], j)
                if b <= a:
                    continue
                for q in range(coefficients):
                    _sum_of_ring(second[q], used, j, a, b, sums[q])
                f, m, w = (
                    fixed[behind, j],
                    moved[behind, j],
                    None if weight is None else weight[behind, j],
                )
                _by_moved_row(sums, f, m, w, a, b, by_moved[behind, j])
                if by_fixed is not None:
                    own = centres[behind % depth, j]
                    to_f, to_w = by_fixed[behind, j], by_weight[behind, j]
                    _by_others_row(sums, own, f, m, w, a, b, to_f, to_w)
