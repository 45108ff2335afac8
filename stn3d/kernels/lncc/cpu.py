"""The local correlation with its exact gradient, in one pass over the planes.

Of each plane's products (f, f f, m, ...) the sums over the window's two inner axes go into a ring
of as many planes as the window is thick; the sum over the ring completes a window. The gradient's
coefficients are summed over windows by a second ring, one window behind the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.cpu.correlation_rows import (
    by_moved_row,
    by_others_row,
    plain_row,
    product_row,
    weighted_row,
)
from stn3d.kernels.cpu.jit import kernel, run
from stn3d.kernels.cpu.tensors import Array, runs_of, volumes
from stn3d.kernels.cpu.windows import bounds, radii_within, slots_around, sum_of_ring, sum_plane
from stn3d.kernels.reference import window_sizes
from stn3d.kernels.region import Region


@kernel
def _take_in(
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
    """Plane i's products, summed over a window's two inner axes, go into the ring."""
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
def _pass_on(
    centre: Any,
    windows: Any,
    reached: Any,
    radii: Any,
    coefficients: Any,
    rows: Any,
    second: Any,
    centres: Any,
) -> None:
    """A plane's coefficients, summed as the products were, go into the second ring.

    Those of the window's own centre go into ``centres``, if it has room. All become 0.
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
def _find_slopes(
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
    """Plane i's derivatives, from the coefficients of all windows that hold its voxels."""
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
    """``totals[i] = (P, Q)`` of each plane; derivatives of P - ratio Q where arrays for them are.

    Args:
        fixed, moved, weight: ``(I, J, K)``; weight may be None.
        radii: half the window along each axis.
        noise: variances of fixed and moved that count as noise.
        ratio: P / Q, if derivatives by fixed and weight are wanted.
        sizes: how many voxels a window holds along each axis, three arrays.
        windows: runs ``(I, J, 2)`` of the windows' centres.
        reached: those of the voxels in these windows, where derivatives are found.
        by_moved: ``(I, J, K)``, or None for the value alone.
        by_fixed, by_weight: the same, or both None; they ask for a weight.
    """
    ni, nj, nk = fixed.shape
    ri, rj, rk = radii
    noise_f, noise_m = noise
    sizes_i, sizes_j, sizes_k = sizes
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
            _take_in(i, fixed, moved, weight, reached, radii, lines, rows, ring)
        centre, behind = i - ri, i - 2 * ri
        if begin <= centre < end:
            # No function of its own: a weighted row takes twice as long where its arrays are given.
            used, shift = slots_around(centre, ri, ni, slots), np.uint64(rk)
            p, q = 0.0, 0.0
            for j in range(nj):
                a, b = bounds(windows[centre], j)
                if b <= a:
                    continue
                for n in range(len(ring)):
                    sum_of_ring(ring[n], used, j, a, b, sums[n])
                if weight is None:
                    size = sizes_i[centre] * sizes_j[j]
                    c0, c1, c2 = coefficients[0, j], coefficients[1, j], coefficients[2, j]
                    p_row, q_row = plain_row(
                        sums, size, sizes_k, noise_f, noise_m, a, b, shift, c0, c1, c2
                    )
                else:
                    w, c = weight[centre, j], coefficients[:, j]
                    p_row, q_row = weighted_row(
                        sums, w, ratio, noise_f, noise_m, a, b, shift, c, by_fixed is not None
                    )
                p += p_row
                q += q_row
            if first <= centre < last:
                totals[centre, 0], totals[centre, 1] = p, q
            if by_moved is not None:
                _pass_on(centre, windows, reached, radii, coefficients, rows, second, centres)
        if by_moved is not None and first <= behind < last:
            scratch = second, centres, sums, slots
            slopes = by_moved, by_fixed, by_weight
            _find_slopes(behind, fixed, moved, weight, reached, radii, *scratch, *slopes)


# -- on tensors ------------------------------------------------------------------------------------


def lncc(
    fixed: Tensor,
    moved: Tensor,
    weight: Tensor | None,
    radii: Sequence[int],
    noise_fixed: float,
    noise_moved: float,
    windows: Region | None = None,
    by_moved: bool = False,
    by_others: bool = False,
) -> tuple[float, Tensor | None, Tensor | None, Tensor | None]:
    """The loss, and its derivatives by moved, fixed and weight where they are wanted.

    Args:
        windows: the centres of the windows that count.
        by_moved: whether the derivative by moved is wanted.
        by_others: whether those by all three are.
    """
    if by_others and weight is None:
        weight = torch.ones_like(fixed[:, :1])
    work = _Lncc.of(fixed, moved, weight, radii, noise_fixed, noise_moved, windows)
    p, q, slopes = work.run(0.0, by_moved and not by_others, False)
    ratio = p / max(q, 1e-12)
    if by_others:  # the derivative by the weights needs the outcome
        slopes = work.run(ratio, True, True)[2]
    found = [
        None if s is None else torch.from_numpy(s).reshape(fixed.shape).mul_(-1 / max(q, 1e-12))
        for s in slopes
    ]
    if weight is not None and found[2] is not None:
        found[2] = found[2].sum_to_size(weight.shape)
    return 1 - ratio, found[0], found[1], found[2]


class _Lncc(NamedTuple):
    """What `lncc_planes` needs, over a batch's channels."""

    fixed: Array
    moved: Array
    weight: Array | None
    radii: tuple[int, ...]
    noise: tuple[Any, Any]
    sizes: tuple[Array, ...]
    windows: Region

    @classmethod
    def of(
        cls,
        fixed: Tensor,
        moved: Tensor,
        weight: Tensor | None,
        radii: Sequence[int],
        noise_fixed: float,
        noise_moved: float,
        windows: Region | None,
    ) -> _Lncc:
        image = volumes(fixed)
        shape, real = image.shape[1:], image.dtype.type
        radii = radii_within(radii, shape)
        return cls(
            image,
            volumes(moved),
            None if weight is None else volumes(weight.to(fixed).expand_as(fixed)),
            radii,
            (real(noise_fixed), real(noise_moved)),
            tuple(window_sizes(n, r, fixed).numpy() for n, r in zip(shape, radii, strict=True)),
            runs_of(windows, image),
        )

    def run(
        self, ratio: float, by_moved: bool, by_others: bool
    ) -> tuple[float, float, list[Array | None]]:
        """P, Q and the derivatives of P - ratio Q; see `lncc_planes`."""
        planes = self.fixed.shape[1]
        slopes = [
            np.zeros_like(self.fixed) if wanted else None
            for wanted in (by_moved, by_others, by_others)
        ]
        reached = self.windows.grown(self.radii)
        total = np.zeros(2)
        for c in range(len(self.fixed)):
            totals = np.zeros((planes, 2))
            run(
                lncc_planes,
                planes,
                self.fixed[c],
                self.moved[c],
                None if self.weight is None else self.weight[c],
                self.radii,
                self.noise,
                self.fixed.dtype.type(ratio),
                self.sizes,
                self.windows.runs,
                reached.runs,
                totals,
                *[None if s is None else s[c] for s in slopes],
                work=reached.lengths.sum(axis=1),
            )
            total += totals.sum(axis=0)
        return float(total[0]), float(total[1]), slopes
