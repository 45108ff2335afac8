"""Products of features with those nearby: values and both adjoints.

Rows are worked on with unsigned indices, as in `stn3d.kernels.cpu.windows`; each row of the result
stays in the first cache while all channels and offsets are added to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from stn3d.kernels.cpu.jit import kernel, run
from stn3d.kernels.cpu.tensors import three


@kernel
def _add_product(one: Any, other: Any, shift: Any, out: Any) -> None:
    """``out[k] += one[k] other[k + shift]`` for all k of ``out`` for which there is one."""
    n = len(out)
    if shift >= 0:
        forward, end = np.uint64(shift), np.uint64(max(n - shift, 0))
        for k in range(np.uint64(0), end):
            out[k] += one[k] * other[k + forward]
        return
    back, end = np.uint64(-shift), np.uint64(max(n + shift, 0))
    for k in range(np.uint64(0), end):
        out[k + back] += one[k + back] * other[k]


@kernel
def _add_moved_product(one: Any, other: Any, shift: Any, out: Any) -> None:
    """``out[k + shift] += one[k] other[k]`` for all k for which there is one."""
    n = len(out)
    if shift >= 0:
        forward, end = np.uint64(shift), np.uint64(max(n - shift, 0))
        for k in range(np.uint64(0), end):
            out[k + forward] += one[k] * other[k]
        return
    back, end = np.uint64(-shift), np.uint64(max(n + shift, 0))
    for k in range(np.uint64(0), end):
        out[k] += one[k + back] * other[k + back]


@kernel
def product_planes(first: int, last: int, fixed: Any, moved: Any, radii: Any, out: Any) -> None:
    """``out`` ``(O, I, J, K)``, zeros before, of features ``(C, I, J, K)``."""
    channels, ni, nj, _ = fixed.shape
    ri, rj, rk = radii
    for i in range(first, last):
        for j in range(nj):
            o = -1
            for di in range(-ri, ri + 1):
                for dj in range(-rj, rj + 1):
                    for dk in range(-rk, rk + 1):
                        o += 1
                        if 0 <= i + di < ni and 0 <= j + dj < nj:
                            for c in range(channels):
                                _add_product(
                                    fixed[c, i, j], moved[c, i + di, j + dj], dk, out[o, i, j]
                                )


@kernel
def fixed_slope_planes(
    first: int, last: int, gradient: Any, moved: Any, radii: Any, out: Any
) -> None:
    """``out`` ``(C, I, J, K)``, zeros before: derivatives by the fixed features."""
    channels, ni, nj, _ = out.shape
    ri, rj, rk = radii
    for i in range(first, last):
        for j in range(nj):
            o = -1
            for di in range(-ri, ri + 1):
                for dj in range(-rj, rj + 1):
                    for dk in range(-rk, rk + 1):
                        o += 1
                        if 0 <= i + di < ni and 0 <= j + dj < nj:
                            for c in range(channels):
                                _add_product(
                                    gradient[o, i, j], moved[c, i + di, j + dj], dk, out[c, i, j]
                                )


@kernel
def moved_slope_planes(
    first: int, last: int, gradient: Any, fixed: Any, radii: Any, out: Any
) -> None:
    """``out`` ``(C, I, J, K)``, zeros before: derivatives by the moved features."""
    channels, ni, nj, _ = out.shape
    ri, rj, rk = radii
    for i in range(first, last):
        for j in range(nj):
            o = -1
            for di in range(-ri, ri + 1):
                for dj in range(-rj, rj + 1):
                    for dk in range(-rk, rk + 1):
                        o += 1
                        s, t = i - di, j - dj
                        if 0 <= s < ni and 0 <= t < nj:
                            for c in range(channels):
                                _add_moved_product(
                                    gradient[o, s, t], fixed[c, s, t], dk, out[c, i, j]
                                )


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
    out = fixed.new_zeros(len(fixed), offsets, *fixed.shape[2:])
    for one, other, result in zip(_volumes(fixed), _volumes(moved), _volumes(out), strict=True):
        run(product_planes, one.shape[1], one, other, _radii(fixed, radius), result)
    return out.div_(fixed.shape[1])


def local_products_adjoint(
    fixed: Tensor, moved: Tensor, gradient: Tensor, radius: int
) -> tuple[Tensor, Tensor]:
    """Derivatives by fixed and moved features, from those by the products."""
    by_fixed, by_moved = fixed.new_zeros(fixed.shape), moved.new_zeros(moved.shape)
    radii = _radii(fixed, radius)
    sources = zip(*(_volumes(t) for t in (fixed, moved, gradient, by_fixed, by_moved)), strict=True)
    for one, other, slope, to_fixed, to_moved in sources:
        run(fixed_slope_planes, one.shape[1], slope, other, radii, to_fixed)
        run(moved_slope_planes, one.shape[1], slope, one, radii, to_moved)
    channels = fixed.shape[1]
    return by_fixed.div_(channels), by_moved.div_(channels)
