"""Jacobian determinants of displacement fields ``(3, I, J, K)``, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import as_field


@kernel
def _difference(low: Any, high: Any, factor: Any, out: Any) -> None:
    for k in range(len(out)):
        out[k] = factor * (high[k] - low[k])


@kernel
def _difference_along(line: Any, out: Any) -> None:
    """Central differences within a row, one-sided at its ends; 0 in a row of one voxel."""
    half, top = line.dtype.type(0.5), len(line) - 1
    out[0] = line[min(1, top)] - line[0]
    out[top] = line[top] - line[max(top - 1, 0)]
    for k in range(1, top):
        out[k] = half * (line[k + 1] - line[k - 1])


@kernel
def _add_minor(a: Any, e: Any, i: Any, f: Any, h: Any, out: Any) -> None:
    """Add an element times its minor, ``a (e i - f h)``, for a row of matrices."""
    for k in range(len(out)):
        out[k] += a[k] * (e[k] * i[k] - f[k] * h[k])


@kernel
def jacobian_planes(first: int, last: int, field: Any, out: Any) -> None:
    """Determinants of ``I + du/dx`` by central differences, one-sided at the faces."""
    _, ni, nj, nk = field.shape
    real = field.dtype.type
    g = np.empty((3, 3, nk), field.dtype)
    for i in range(first, last):
        below, above = max(i - 1, 0), min(i + 1, ni - 1)
        factor_i = real(1) / real(max(above - below, 1))
        for j in range(nj):
            left, right = max(j - 1, 0), min(j + 1, nj - 1)
            factor_j = real(1) / real(max(right - left, 1))
            for a in range(3):
                _difference(field[a, below, j], field[a, above, j], factor_i, g[a, 0])
                _difference(field[a, i, left], field[a, i, right], factor_j, g[a, 1])
                _difference_along(field[a, i, j], g[a, 2])
                diagonal = g[a, a]
                for k in range(nk):
                    diagonal[k] += real(1)
            row = out[i, j]
            for k in range(nk):
                row[k] = 0
            _add_minor(g[0, 0], g[1, 1], g[2, 2], g[1, 2], g[2, 1], row)
            _add_minor(g[0, 1], g[1, 2], g[2, 0], g[1, 0], g[2, 2], row)
            _add_minor(g[0, 2], g[1, 0], g[2, 1], g[1, 1], g[2, 0], row)


def jacobian_determinant(displacement_vox: Tensor) -> Tensor:
    """Determinants of each field; not differentiable."""
    shape = displacement_vox.shape[2:]
    out = displacement_vox.new_empty(len(displacement_vox), *shape)
    for vectors, one in zip(displacement_vox, out, strict=True):
        field = as_field(vectors)
        run(jacobian_planes, field.shape[1], field, one.reshape(field.shape[1:]).numpy())
    return out
