"""Total variation, plane by plane: in each iteration one pass for the field, one for its dual."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import batches


@kernel
def primal_planes(first: int, last: int, field: Any, dual: Any, weight: float, out: Any) -> None:
    """``out = field + weight div(dual)``.

    Args:
        field: ``(d, I, J, K)``.
        dual: ``(3, d, I, J, K)``, one field for each axis; 0 at the end of the axis.
    """
    d, _, nj, nk = field.shape
    w = out.dtype.type(weight)
    for a in range(d):
        along_i, along_j, along_k = dual[0, a], dual[1, a], dual[2, a]
        for i in range(first, last):
            for j in range(nj):
                row, source = out[a, i, j], field[a, i, j]
                pi, pj, pk = along_i[i, j], along_j[i, j], along_k[i, j]
                for k in range(nk):
                    row[k] = source[k] + w * (pi[k] + pj[k] + pk[k])
                for k in range(1, nk):
                    row[k] -= w * pk[k - 1]
                if i > 0:
                    before = along_i[i - 1, j]
                    for k in range(nk):
                        row[k] -= w * before[k]
                if j > 0:
                    before = along_j[i, j - 1]
                    for k in range(nk):
                        row[k] -= w * before[k]


@kernel
def dual_planes(first: int, last: int, u: Any, rate: float, dual: Any) -> None:
    """Add the differences of u, scaled, to the dual fields; shorten vectors to a length of 1."""
    d, ni, nj, nk = u.shape
    r, one = u.dtype.type(rate), u.dtype.type(1)
    norm = np.empty(nk, u.dtype)
    for i in range(first, last):
        for j in range(nj):
            for k in range(nk):
                norm[k] = 0
            for a in range(d):
                here = u[a, i, j]
                if i + 1 < ni:
                    row, after = dual[0, a, i, j], u[a, i + 1, j]
                    for k in range(nk):
                        row[k] += r * (after[k] - here[k])
                        norm[k] += row[k] * row[k]
                if j + 1 < nj:
                    row, after = dual[1, a, i, j], u[a, i, j + 1]
                    for k in range(nk):
                        row[k] += r * (after[k] - here[k])
                        norm[k] += row[k] * row[k]
                row = dual[2, a, i, j]
                for k in range(nk - 1):
                    row[k] += r * (here[k + 1] - here[k])
                    norm[k] += row[k] * row[k]
            for k in range(nk):
                norm[k] = one / max(one, np.sqrt(norm[k]))
            for axis in range(3):
                for a in range(d):
                    row = dual[axis, a, i, j]
                    for k in range(nk):
                        row[k] *= norm[k]


def total_variation_smooth(field: Tensor, weight: float, step: float, iterations: int) -> Tensor:
    """Both passes, distributed over the threads."""
    out = field.new_empty(field.shape)
    source, u = batches(field)[0], batches(out)[0]
    dual = np.zeros((3, *source.shape), source.dtype)
    planes = source.shape[1]
    for _ in range(iterations):
        run(primal_planes, planes, source, dual, weight, u)
        run(dual_planes, planes, u, step / weight, dual)
    run(primal_planes, planes, source, dual, weight, u)
    return out
