"""LNCC with its exact gradient, in one pass over the planes.

The products of each plane (f, f f, m, ...) are summed over the window's last two axes and stored in
a ring buffer of as many planes as the window has; the sum over the ring buffer completes a window.
The coefficients of the gradient are summed over windows in a second ring buffer, one radius behind.

The arguments of `lncc_planes` and its helpers:
    fixed, moved, weight: ``(I, J, K)``; weight may be None.
    radii: half the window's width along each axis.
    noise: noise variances of fixed and moved.
    ratio: P / Q, for the derivatives by fixed and weight.
    sizes: numbers of voxels in a window along each axis, three arrays.
    windows, reached: runs ``(I, J, 2)`` of the windows' centres, and of all their voxels.
    totals: ``(I, 2)``, become P and Q of each plane.
    by_moved: ``(I, J, K)``, or None for the value alone.
    by_fixed, by_weight: ``(I, J, K)`` with a weight, or both None.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stn3d.kernels.box_sum.cpu import bounds, slots_around, sum_of_ring, sum_plane
from stn3d.kernels.common.jit import kernel
from stn3d.kernels.lncc.cpu_rows import (
    by_moved_row,
    by_others_row,
    plain_row,
    product_row,
    weighted_row,
)


@kernel
def _push_products(
    i: Any,
    fixed: Any,
    moved: Any,
    weight: Any,
    reached: Any,
    radii: Any,
    lines: Any,
    rows: Any,
    ring: Any,
) -> None:
    """Store plane i's products, summed over the window's last two axes, in the ring buffer."""
    _, rj, rk = radii
    shift, slot = np.uint64(rk), i % ring.shape[1]
    for q in range(len(ring)):
        for j in range(fixed.shape[1]):
            a, b = bounds(reached[i], j)
            if b > a:
                w = None if weight is None else weight[i, j]
                product_row(q, fixed[i, j], moved[i, j], w, a, b, shift, lines[j])
        sum_plane(rj, rk, reached[i], lines, rows, ring[q, slot])


@kernel
def _push_gradient(
    centre: Any,
    windows: Any,
    reached: Any,
    radii: Any,
    coefficients: Any,
    rows: Any,
    second: Any,
    centres: Any,
) -> None:
    """Store a plane's coefficients, summed as the products, in the second ring buffer.

    Those of the windows' centres go to ``centres``, unless it is empty. Then all are reset to 0.
    """
    _, rj, rk = radii
    slot = centre % second.shape[1]
    for q in range(len(second)):
        rows[:] = 0
        second[q, slot] = 0
        sum_plane(rj, rk, reached[centre], coefficients[q], rows, second[q, slot])
    if len(centres) > 0:
        centres[slot] = coefficients[len(second)]
    for q in range(len(coefficients)):
        for j in range(windows.shape[1]):
            start, end = windows[centre, j, 0] + rk, windows[centre, j, 1] + rk
            coefficients[q, j, start:end] = 0


@kernel
def _derivatives(
    i: Any,
    fixed: Any,
    moved: Any,
    weight: Any,
    reached: Any,
    radii: Any,
    second: Any,
    centres: Any,
    sums: Any,
    slots: Any,
    by_moved: Any,
    by_fixed: Any,
    by_weight: Any,
) -> None:
    """Derivatives of plane i, from the coefficients of all windows that contain its voxels."""
    used = slots_around(i, radii[0], len(fixed), slots)
    for j in range(fixed.shape[1]):
        a, b = bounds(reached[i], j)
        if b <= a:
            continue
        for q in range(len(second)):
            sum_of_ring(second[q], used, j, a, b, sums[q])
        f, m, w = fixed[i, j], moved[i, j], None if weight is None else weight[i, j]
        by_moved_row(sums, f, m, w, a, b, by_moved[i, j])
        if by_fixed is not None:
            own = centres[i % len(centres), j]
            by_others_row(sums, own, f, m, w, a, b, by_fixed[i, j], by_weight[i, j])


@kernel
def lncc_planes(
    first: int,
    last: int,
    fixed: Any,
    moved: Any,
    weight: Any,
    radii: Any,
    noise: Any,
    ratio: Any,
    sizes: Any,
    windows: Any,
    reached: Any,
    totals: Any,
    by_moved: Any,
    by_fixed: Any,
    by_weight: Any,
) -> None:
    """P and Q of each plane, and the derivatives of P - ratio Q (formulas: `cpu_rows`)."""
    ni, nj, nk = fixed.shape
    ri, rj, rk = radii
    dtype, depth = fixed.dtype, 2 * ri + 1
    second_depth, centres_depth = 0 if by_moved is None else depth, 0 if by_fixed is None else depth
    count = 3 if by_fixed is None else 6
    ring = np.zeros((5 if weight is None else 6, depth, nj, nk), dtype)
    second = np.zeros((count, second_depth, nj, nk), dtype)
    coefficients = np.zeros((count + 1, nj, nk + 2 * rk), dtype)
    centres = np.zeros((centres_depth, nj, nk + 2 * rk), dtype)
    lines, rows = np.zeros((nj, nk + 2 * rk), dtype), np.zeros((nj + 2 * rj, nk), dtype)
    sums, slots = np.empty((6, nk), dtype), np.empty(depth, np.int64)
    begin = first if by_moved is None else max(first - ri, 0)
    end = last if by_moved is None else min(last + ri, ni)
    for i in range(max(begin - ri, 0), end + 2 * ri):
        if i < min(end + ri, ni):
            _push_products(i, fixed, moved, weight, reached, radii, lines, rows, ring)
        centre, behind = i - ri, i - 2 * ri
        if begin <= centre < end:
            # Not in a function: it would make rows with weights twice as slow.
            used, shift = slots_around(centre, ri, ni, slots), np.uint64(rk)
            p, q = 0.0, 0.0
            for j in range(nj):
                a, b = bounds(windows[centre], j)
                if b <= a:
                    continue
                for n in range(len(ring)):
                    sum_of_ring(ring[n], used, j, a, b, sums[n])
                if weight is None:
                    size = sizes[0][centre] * sizes[1][j]
                    c0, c1, c2 = coefficients[0, j], coefficients[1, j], coefficients[2, j]
                    p_row, q_row = plain_row(
                        sums, size, sizes[2], noise[0], noise[1], a, b, shift, c0, c1, c2
                    )
                else:
                    w, c = weight[centre, j], coefficients[:, j]
                    p_row, q_row = weighted_row(
                        sums, w, ratio, noise[0], noise[1], a, b, shift, c, by_fixed is not None
                    )
                p, q = p + p_row, q + q_row
            if first <= centre < last:
                totals[centre, 0], totals[centre, 1] = p, q
            if by_moved is not None:
                _push_gradient(centre, windows, reached, radii, coefficients, rows, second, centres)
        if by_moved is not None and first <= behind < last:
            scratch = second, centres, sums, slots
            results = by_moved, by_fixed, by_weight
            _derivatives(behind, fixed, moved, weight, reached, radii, *scratch, *results)
