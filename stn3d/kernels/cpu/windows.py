"""Box sums and the local correlation with its exact gradient, in one pass over the planes.

Of each plane's products (a, a a, b, ...) the sums over the window's two inner axes go into a ring
of as many planes as the window is thick; the sum over the ring completes a window. The gradient's
coefficients are summed over windows by a second ring, one window behind the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stn3d.kernels.cpu.jit import kernel


@kernel
def _sum_of_rows(rows: Any, j: Any, radius: Any, out: Any) -> None:
    """The sum of ``2 radius + 1`` rows around row ``j + radius``."""
    if radius == 2:  # the usual window in one go
        a, b, c, d, e = rows[j], rows[j + 1], rows[j + 2], rows[j + 3], rows[j + 4]
        for k in range(len(out)):
            out[k] = (a[k] + b[k]) + (c[k] + d[k]) + e[k]
        return
    middle = rows[j + radius]
    for k in range(len(out)):
        out[k] = middle[k]
    for t in range(1, radius + 1):
        low, high = rows[j + radius - t], rows[j + radius + t]
        for k in range(len(out)):
            out[k] += low[k] + high[k]


@kernel
def _sum_along(line: Any, radius: Any, out: Any) -> None:
    """Sums of ``2 radius + 1`` neighbours of a line that has ``radius`` zeros at both ends."""
    n = len(out)
    if radius == 2:
        a, b, c, d, e = line[:n], line[1 : n + 1], line[2 : n + 2], line[3 : n + 3], line[4 : n + 4]
        for k in range(n):
            out[k] = (a[k] + b[k]) + (c[k] + d[k]) + e[k]
        return
    middle = line[radius : radius + n]
    for k in range(n):
        out[k] = middle[k]
    for t in range(1, radius + 1):
        low, high = line[radius - t : radius - t + n], line[radius + t : radius + t + n]
        for k in range(n):
            out[k] += low[k] + high[k]


@kernel
def sum_plane(plane: Any, rj: Any, rk: Any, rows: Any, line: Any, out: Any) -> None:
    """Sums of a plane over ``2 rj + 1`` by ``2 rk + 1`` voxels; nothing lies beyond its edges.

    ``rows`` ``(J + 2 rj, K)`` and ``line`` ``(K + 2 rk,)`` are scratch with zeros at their ends.
    """
    nj, nk = plane.shape
    for j in range(nj):
        middle, source = line[rk : rk + nk], plane[j]
        for k in range(nk):
            middle[k] = source[k]
        _sum_along(line, rk, rows[j + rj])
    for j in range(nj):
        _sum_of_rows(rows, j, rj, out[j])


@kernel
def _sum_of_ring(ring: Any, centre: Any, radius: Any, planes: Any, j: Any, out: Any) -> None:
    """A row's sum over the planes of a ring that lie in a window and in the volume."""
    size = ring.shape[0]
    row = ring[centre % size, j]
    for k in range(len(out)):
        out[k] = row[k]
    for t in range(1, radius + 1):
        if centre - t >= 0:
            row = ring[(centre - t) % size, j]
            for k in range(len(out)):
                out[k] += row[k]
        if centre + t < planes:
            row = ring[(centre + t) % size, j]
            for k in range(len(out)):
                out[k] += row[k]


@kernel
def box_sum_planes(
    first: int, last: int, volumes: Any, ri: Any, rj: Any, rk: Any, out: Any
) -> None:
    """Sums of volumes ``(C, I, J, K)`` over windows; plane number is ``c I + i``."""
    _, ni, nj, nk = volumes.shape
    rows, line = np.zeros((nj + 2 * rj, nk), volumes.dtype), np.zeros(nk + 2 * rk, volumes.dtype)
    plane = np.empty((nj, nk), volumes.dtype)
    for number in range(first, last):
        c, i = number // ni, number % ni
        for j in range(nj):
            row = plane[j]
            for t in range(max(i - ri, 0), min(i + ri, ni - 1) + 1):
                source = volumes[c, t, j]
                if t == max(i - ri, 0):
                    for k in range(nk):
                        row[k] = source[k]
                else:
                    for k in range(nk):
                        row[k] += source[k]
        sum_plane(plane, rj, rk, rows, line, out[c, i])


# -- local correlation ----------------------------------------------------------------------------
#
# With n = sum w, means a = sum w f / n, b = sum w m / n, variances A, B and covariance X of a window
# (fixed f, moved m, weights w; w = 1 where there are none), noise e_A, e_B:
#   likeness L = X^2 / ((A + e_A) (B + e_B)), texture T = A / (A + 10 e_A),
#   loss = 1 - sum w T L / sum w T = 1 - P / Q.
# The derivative of P (and of Q) by m(x) is a window sum of coefficients, since sums over windows
# around x gather all windows that contain x (Avants et al. 2008, without their approximation).


@kernel
def _products(quantity: Any, fixed: Any, moved: Any, weight: Any, out: Any) -> None:
    """One plane of what is summed over windows: f, f f, m, m m, f m, each times w; and w."""
    for j in range(out.shape[0]):
        f, m, row = fixed[j], moved[j], out[j]
        if quantity == 0:
            for k in range(len(row)):
                row[k] = f[k]
        elif quantity == 1:
            for k in range(len(row)):
                row[k] = f[k] * f[k]
        elif quantity == 2:
            for k in range(len(row)):
                row[k] = m[k]
        elif quantity == 3:
            for k in range(len(row)):
                row[k] = m[k] * m[k]
        elif quantity == 4:
            for k in range(len(row)):
                row[k] = f[k] * m[k]
        else:
            for k in range(len(row)):
                row[k] = f[k] * 0 + 1
        if weight is not None:
            w = weight[j]
            for k in range(len(row)):
                row[k] *= w[k]


@kernel
def _plain_row(sums: Any, size: Any, noise_f: Any, noise_m: Any, out: Any) -> Any:
    """P and Q of a row of windows without weights, and P's coefficients: of 1, m and f."""
    real = sums.dtype.type
    zero, one, two, ten = real(0), real(1), real(2), real(10)
    sf, sff, sm, smm, sfm = sums[0], sums[1], sums[2], sums[3], sums[4]
    by_one, by_m, by_f = out[0], out[1], out[2]
    p, q = zero, zero
    for k in range(len(size)):
        share = one / size[k]
        a, b = sf[k] * share, sm[k] * share
        var_f, var_m = max(sff[k] * share - a * a, zero), smm[k] * share - b * b
        cross = sfm[k] * share - a * b
        over_f, over_m = one / (var_f + noise_f), one / (max(var_m, zero) + noise_m)
        texture = var_f / (var_f + ten * noise_f)
        slope = cross * over_f * over_m
        likeness = cross * slope
        p += texture * likeness
        q += texture
        by_cross = two * texture * slope * share
        by_var = -texture * likeness * over_m * share if var_m > zero else zero
        by_f[k] = by_cross
        by_m[k] = two * by_var
        by_one[k] = -(two * b * by_var + a * by_cross)
    return p, q


@kernel
def _weighted_row(
    sums: Any, weight: Any, ratio: Any, noise_f: Any, noise_m: Any, out: Any, full: Any
) -> Any:
    """P and Q of a row of windows with weights, and the coefficients of P - ratio Q.

    Of 1, m and f in the derivative by m; if ``full`` also those of 1 and f in that by f (its
    coefficient of m is the one of f by m), of the window's own weight, and of the centre's.
    """
    real = sums.dtype.type
    zero, one, two, ten, least = real(0), real(1), real(2), real(10), real(1e-6)
    sf, sff, sm, smm, sfm, sw = sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]
    p, q = zero, zero
    for k in range(len(weight)):
        share = one / max(sw[k], least)
        a, b = sf[k] * share, sm[k] * share
        var_f, var_m = max(sff[k] * share - a * a, zero), smm[k] * share - b * b
        cross = sfm[k] * share - a * b
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
        out[0, k] = -(two * b * by_var + a * by_cross)
        out[1, k] = two * by_var
        out[2, k] = by_cross
        if full:
            gain = likeness - ratio
            by_var_f = zero
            if var_f > zero:
                by_texture = ten * noise_f * over_t * over_t
                by_var_f = w * (gain * by_texture - texture * likeness * over_f) * share
            out[3, k] = -(two * a * by_var_f + b * by_cross)
            out[4, k] = two * by_var_f
            own = by_cross * (a * b - cross) + by_var_f * (a * a - var_f)
            own += by_var * (b * b - max(var_m, zero))
            out[5, k] = own if sw[k] > least else zero
            out[6, k] = texture * gain
    return p, q


@kernel
def _gradient_row(
    i: Any,
    j: Any,
    s: Any,
    centre: Any,
    fixed: Any,
    moved: Any,
    weight: Any,
    by_moved: Any,
    by_fixed: Any,
    by_weight: Any,
) -> None:
    """A row of the derivatives of P - ratio Q, from the window sums of the coefficients."""
    f, m, out = fixed[i, j], moved[i, j], by_moved[i, j]
    s0, s1, s2 = s[0], s[1], s[2]
    for k in range(len(out)):
        out[k] = s0[k] + m[k] * s1[k] + f[k] * s2[k]
    if weight is not None:
        w = weight[i, j]
        for k in range(len(out)):
            out[k] *= w[k]
        if by_fixed is not None:
            to_f, to_w = by_fixed[i, j], by_weight[i, j]
            s3, s4, s5 = s[3], s[4], s[5]
            half = s.dtype.type(0.5)
            for k in range(len(out)):
                to_f[k] = w[k] * (s3[k] + f[k] * s4[k] + m[k] * s2[k])
            for k in range(len(out)):
                squares = half * (f[k] * f[k] * s4[k] + m[k] * m[k] * s1[k])
                to_w[k] = s5[k] + f[k] * s3[k] + m[k] * s0[k] + squares + f[k] * m[k] * s2[k]
            for k in range(len(out)):
                to_w[k] += centre[k]


@kernel
def lncc_planes(
    first: int,
    last: int,
    fixed: Any,
    moved: Any,
    weight: Any,
    ri: Any,
    rj: Any,
    rk: Any,
    noise_f: Any,
    noise_m: Any,
    ratio: Any,
    sizes_i: Any,
    sizes_j: Any,
    sizes_k: Any,
    totals: Any,
    by_moved: Any,
    by_fixed: Any,
    by_weight: Any,
) -> None:
    """``totals[i] = (P, Q)`` of each plane; derivatives of P - ratio Q where arrays for them are.

    Args:
        fixed, moved, weight: ``(I, J, K)``; weight may be None.
        ri, rj, rk: half the window along each axis.
        noise_f, noise_m: variances that count as noise.
        ratio: P / Q, if derivatives by fixed and weight are wanted.
        sizes_i, sizes_j, sizes_k: how many voxels a window holds along each axis.
        by_moved: ``(I, J, K)``, or None for the value alone.
        by_fixed, by_weight: the same, or both None; they ask for a weight.
    """
    ni, nj, nk = fixed.shape
    dtype = fixed.dtype
    quantities = 5 if weight is None else 6
    coefficients = 3 if by_fixed is None else 6
    ring = np.zeros((quantities, 2 * ri + 1, nj, nk), dtype)
    second = np.zeros((coefficients, 2 * ri + 1, nj, nk), dtype)
    centres = np.zeros((2 * ri + 1, nj if by_fixed is not None else 0, nk), dtype)
    plane, coefficient = np.empty((nj, nk), dtype), np.empty((coefficients + 1, nj, nk), dtype)
    rows, line = np.zeros((nj + 2 * rj, nk), dtype), np.zeros(nk + 2 * rk, dtype)
    sums, size = np.empty((6, nk), dtype), np.empty(nk, dtype)
    begin = first if by_moved is None else max(first - ri, 0)
    end = last if by_moved is None else min(last + ri, ni)
    for i in range(max(begin - ri, 0), end + 2 * ri):
        if i < min(end + ri, ni):
            for q in range(quantities):
                if weight is None:
                    _products(q, fixed[i], moved[i], None, plane)
                else:
                    _products(q, fixed[i], moved[i], weight[i], plane)
                sum_plane(plane, rj, rk, rows, line, ring[q, i % (2 * ri + 1)])
        centre = i - ri
        if begin <= centre < end:
            p, q_ = 0.0, 0.0
            for j in range(nj):
                for q in range(quantities):
                    _sum_of_ring(ring[q], centre, ri, ni, j, sums[q])
                if weight is None:
                    both = sizes_i[centre] * sizes_j[j]
                    for k in range(nk):
                        size[k] = both * sizes_k[k]
                    p_row, q_row = _plain_row(sums, size, noise_f, noise_m, coefficient[:, j])
                else:
                    p_row, q_row = _weighted_row(
                        sums,
                        weight[centre, j],
                        ratio,
                        noise_f,
                        noise_m,
                        coefficient[:, j],
                        by_fixed is not None,
                    )
                p += p_row
                q_ += q_row
            if first <= centre < last:
                totals[centre, 0], totals[centre, 1] = p, q_
            if by_moved is not None:
                for q in range(coefficients):
                    sum_plane(coefficient[q], rj, rk, rows, line, second[q, centre % (2 * ri + 1)])
                if by_fixed is not None:
                    centres[centre % (2 * ri + 1)] = coefficient[coefficients]
        behind = i - 2 * ri
        if by_moved is not None and first <= behind < last:
            for j in range(nj):
                for q in range(coefficients):
                    _sum_of_ring(second[q], behind, ri, ni, j, sums[q])
                own = centres[behind % (2 * ri + 1), j] if by_fixed is not None else size
                _gradient_row(
                    behind, j, sums, own, fixed, moved, weight, by_moved, by_fixed, by_weight
                )
