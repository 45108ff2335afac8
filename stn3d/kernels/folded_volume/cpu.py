"""Folded volume of displacement fields ``(3, I, J, K)``, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import as_field


@kernel
def _difference(low: Any, high: Any, step: float, out: Any) -> None:
    """``high - low + step`` for a row."""
    add = out.dtype.type(step)
    for k in range(len(out)):
        out[k] = high[k] - low[k] + add


@kernel
def _difference_before(low: Any, high: Any, step: float, out: Any) -> None:
    """``high[k] - low[k - 1] + step``; beyond the first voxel the displacement continues."""
    add = out.dtype.type(step)
    out[0] = high[0] - low[0] + add
    for k in range(1, len(out)):
        out[k] = high[k] - low[k - 1] + add


@kernel
def _difference_after(low: Any, high: Any, step: float, out: Any) -> None:
    """``high[k + 1] - low[k] + step``; beyond the last voxel the displacement continues."""
    add, top = out.dtype.type(step), len(out) - 1
    out[top] = high[top] - low[top] + add
    for k in range(top):
        out[k] = high[k + 1] - low[k] + add


@kernel
def _add_inverted(a: Any, b: Any, c: Any, sign: Any, out: Any) -> None:
    """Add the negative part of ``sign * det(a, b, c)`` for a row of edges ``(3, K)`` each."""
    zero = out.dtype.type(0)
    for k in range(len(out)):
        det = (
            a[0, k] * (b[1, k] * c[2, k] - b[2, k] * c[1, k])
            - a[1, k] * (b[0, k] * c[2, k] - b[2, k] * c[0, k])
            + a[2, k] * (b[0, k] * c[1, k] - b[1, k] * c[0, k])
        )
        out[k] += max(-sign * det, zero)


@kernel
def folded_planes(first: int, last: int, field: Any, sign: Any, out: Any) -> None:
    """Half the inverted volume of the ten tetrahedra at each voxel."""
    _, ni, nj, nk = field.shape
    edges = np.empty((3, 2, 3, nk), field.dtype)
    across = np.empty((2, 3, 3, nk), field.dtype)
    unit, share = np.eye(3), out.dtype.type(1 / 12)
    for i in range(first, last):
        i0, i1 = max(i - 1, 0), min(i + 1, ni - 1)
        for j in range(nj):
            j0, j1 = max(j - 1, 0), min(j + 1, nj - 1)
            for a in range(3):
                u, x, y, z = field[a], unit[a, 0], unit[a, 1], unit[a, 2]
                here = u[i, j]
                _difference(u[i0, j], here, x, edges[0, 0, a])
                _difference(here, u[i1, j], x, edges[0, 1, a])
                _difference(u[i, j0], here, y, edges[1, 0, a])
                _difference(here, u[i, j1], y, edges[1, 1, a])
                _difference_before(here, here, z, edges[2, 0, a])
                _difference_after(here, here, z, edges[2, 1, a])
                _difference(u[i0, j0], here, x + y, across[0, 0, a])
                _difference_before(u[i, j0], here, y + z, across[0, 1, a])
                _difference_before(u[i0, j], here, x + z, across[0, 2, a])
                _difference(here, u[i1, j1], x + y, across[1, 0, a])
                _difference_after(here, u[i, j1], y + z, across[1, 1, a])
                _difference_after(here, u[i1, j], x + z, across[1, 2, a])
            row = out[i, j]
            for k in range(nk):
                row[k] = 0
            for p in range(2):
                for q in range(2):
                    for r in range(2):
                        _add_inverted(edges[0, p], edges[1, q], edges[2, r], sign, row)
                _add_inverted(across[p, 0], across[p, 1], across[p, 2], sign, row)
            for k in range(nk):
                row[k] *= share


def folded_volume(displacement_vox: Tensor, mirrored: bool) -> Tensor:
    """Folded volume of each 3D field."""
    out = displacement_vox.new_empty(len(displacement_vox), *displacement_vox.shape[2:])
    for vectors, one in zip(displacement_vox, out, strict=True):
        field = as_field(vectors)
        sign = field.dtype.type(-1 if mirrored else 1)
        run(folded_planes, field.shape[1], field, sign, one.numpy())
    return out
