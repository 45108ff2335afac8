"""Sums over windows, plane by plane; also the building blocks of LNCC.

Rows are processed from ``a`` up to ``b``, both unsigned: indices need no check for negative values,
so the compiler can vectorise them. Slices of rows would take as long as the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.region import Region
from stn3d.kernels.common.tensors import three_axes, volumes


@kernel
def bounds(runs: Any, j: Any) -> Any:
    """First voxel and end of row j, unsigned."""
    first = max(runs[j, 0], 0)
    return np.uint64(first), np.uint64(max(runs[j, 1], first))


@kernel
def _sum_along(line: Any, radius: Any, a: Any, b: Any, out: Any) -> None:
    """``out[k]`` becomes the sum of ``line[k] ... line[k + 2 radius]``."""
    if radius == 2:  # the default window, in one pass
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
def sum_plane(rj: Any, rk: Any, runs: Any, line: Any, rows: Any, out: Any) -> None:
    """Sums over ``2 rj + 1`` by ``2 rk + 1`` voxels of a plane, for its runs ``(J, 2)``.

    Args:
        line: ``(J, K + 2 rk)`` the plane, padded by ``rk`` zeros at both ends of its rows.
        rows: ``(J + 2 rj, K)`` scratch memory, with ``rj`` rows of zeros at both ends.
        out: ``(J, K)``.
    """
    for j in range(out.shape[0]):
        a, b = bounds(runs, j)
        if b > a:
            _sum_along(line[j], rk, a, b, rows[j + rj])
    for j in range(out.shape[0]):
        a, b = bounds(runs, j)
        if b > a:
            _sum_of_rows(rows, j, rj, a, b, out[j])


@kernel
def sum_of_ring(ring: Any, slots: Any, j: Any, a: Any, b: Any, out: Any) -> None:
    """Sum of row j over the given slots of a ring buffer of planes."""
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
def slots_around(centre: Any, radius: Any, planes: Any, slots: Any) -> Any:
    """The ring buffer's slots of the planes in the window around a plane, within the volume."""
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
            sum_plane(rj, rk, runs[i], line, rows, out[c, i])


def box_sum(image: Tensor, radii: Sequence[int]) -> Tensor:
    """Sums of all planes; differentiable."""
    return _BoxSum.apply(image, tuple(radii))


class _BoxSum(torch.autograd.Function):
    """A sum over windows is its own adjoint."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, radii: tuple[int, ...]) -> Tensor:
        ctx.radii = radii
        return _sums(image, radii)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return box_sum(gradients[0], ctx.radii), None


def _sums(image: Tensor, radii: Sequence[int]) -> Tensor:
    source, result = volumes(image), torch.empty_like(image, memory_format=torch.contiguous_format)
    runs = Region.full(source.shape[1:]).runs
    shape = source.shape[1:]
    run(box_sum_planes, shape[0], source, radii_within(radii, shape), runs, volumes(result))
    return result


def radii_within(radii: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Radii along three_axes axes, each at most the largest distance of two voxels."""
    return tuple(min(r, n - 1) for r, n in zip(three_axes(radii, 0), shape, strict=True))
