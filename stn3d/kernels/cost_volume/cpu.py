"""Products of features with those nearby: values and both adjoints.

Rows of a volume are copied into lines with zeros at both ends, so that no offset along a row needs
a check; all offsets along it are worked on at once. Indices are unsigned, as in
`stn3d.kernels.cpu.windows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from stn3d.kernels.cpu.jit import kernel, run
from stn3d.kernels.cpu.tensors import three


@kernel
def product_planes(first: int, last: int, fixed: Any, moved: Any, radii: Any, out: Any) -> None:
    """``out`` ``(O, I, J, K)`` of features ``(C, I, J, K)``."""
    channels, ni, nj, nk = fixed.shape
    ri, rj, rk = radii
    line = np.zeros(nk + 2 * rk, fixed.dtype)
    sums = np.zeros((2 * rk + 1, nk), fixed.dtype)
    share = fixed.dtype.type(1 / channels)
    zero, end, middle = np.uint64(0), np.uint64(nk), np.uint64(rk)
    for i in range(first, last):
        for j in range(nj):
            offset = 0
            for a in range(i - ri, i + ri + 1):
                for b in range(j - rj, j + rj + 1):
                    sums[:] = 0
                    within = 0 <= a < ni and 0 <= b < nj
                    for c in range(channels if within else 0):
                        for k in range(zero, end):
                            line[k + middle] = moved[c, a, b, k]
                        for t in range(2 * rk + 1):
                            shift = np.uint64(t)
                            for k in range(zero, end):
                                sums[t, k] += fixed[c, i, j, k] * line[k + shift]
                    for t in range(2 * rk + 1):
                        for k in range(zero, end):
                            out[offset, i, j, k] = share * sums[t, k]
                        offset += 1


@kernel
def slope_planes(
    first: int, last: int, gradient: Any, other: Any, radii: Any, by_fixed: Any, out: Any
) -> None:
    """``out`` ``(C, I, J, K)``: derivatives by the fixed features, or by the moved ones.

    Args:
        gradient: ``(O, I, J, K)`` derivatives by the products.
        other: ``(C, I, J, K)`` the other features.
    """
    channels, ni, nj, nk = out.shape
    ri, rj, rk = radii
    line = np.zeros(nk + 2 * rk, other.dtype)
    lines = np.zeros((2 * rk + 1, nk + 2 * rk), other.dtype)
    sums = np.zeros((channels, nk), other.dtype)
    share = other.dtype.type(1 / channels)
    zero, end, middle = np.uint64(0), np.uint64(nk), np.uint64(rk)
    for i in range(first, last):
        for j in range(nj):
            sums[:] = 0
            for a in range(max(i - ri, 0), min(i + ri, ni - 1) + 1):
                for b in range(max(j - rj, 0), min(j + rj, nj - 1) + 1):
                    # Products of fixed at (i, j) and moved at (a, b), or the other way round.
                    di, dj, p, q = (a - i, b - j, i, j) if by_fixed else (i - a, j - b, a, b)
                    offset = ((di + ri) * (2 * rj + 1) + dj + rj) * (2 * rk + 1)
                    for t in range(2 * rk + 1):
                        # Of the moved features the nearest come from the farthest offsets.
                        o = offset + (t if by_fixed else 2 * rk - t)
                        for k in range(zero, end):
                            lines[t, k + middle] = gradient[o, p, q, k]
                    for c in range(channels):
                        for k in range(zero, end):
                            line[k + middle] = other[c, a, b, k]
                        for t in range(2 * rk + 1):
                            shift = np.uint64(t)
                            own = middle if by_fixed else shift
                            for k in range(zero, end):
                                sums[c, k] += lines[t, k + own] * line[k + shift]
            for c in range(channels):
                for k in range(zero, end):
                    out[c, i, j, k] = share * sums[c, k]


# -- on tensors ------------------------------------------------------------------------------------


def _volumes(image: Tensor) -> Any:
    """``(B, C, I, J, K)``."""
    image = image.detach().contiguous()
    return (image if image.ndim == 5 else image[:, :, None]).numpy()


def _radii(image: Tensor, radius: int) -> tuple[int, ...]:
    return tuple(three([radius] * (image.ndim - 2), 0))


def local_products(fixed: Tensor, moved: Tensor, radius: int) -> Tensor:
    """Products with neighbours. See `stn3d.kernels`."""
    offsets = (2 * radius + 1) ** (fixed.ndim - 2)
    out = fixed.new_empty(len(fixed), offsets, *fixed.shape[2:])
    for one, other, result in zip(_volumes(fixed), _volumes(moved), _volumes(out), strict=True):
        run(product_planes, one.shape[1], one, other, _radii(fixed, radius), result)
    return out


def local_products_adjoint(
    fixed: Tensor, moved: Tensor, gradient: Tensor, radius: int
) -> tuple[Tensor, Tensor]:
    """Derivatives by fixed and moved features, from those by the products."""
    by_fixed, by_moved = fixed.new_empty(fixed.shape), moved.new_empty(moved.shape)
    radii = _radii(fixed, radius)
    sources = zip(*(_volumes(t) for t in (fixed, moved, gradient, by_fixed, by_moved)), strict=True)
    for one, other, slope, to_fixed, to_moved in sources:
        run(slope_planes, one.shape[1], slope, other, radii, True, to_fixed)
        run(slope_planes, one.shape[1], slope, one, radii, False, to_moved)
    return by_fixed, by_moved
