"""Multiplication of a field by a separable window, row by row, with lengths of its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.boundary_window.lengths import length_quantile, length_stride
from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.region import Region
from stn3d.kernels.common.tensors import as_field, runs_of, three_axes


@kernel
def window_planes(
    first: int,
    last: int,
    field: Any,
    weights_i: Any,
    weights_j: Any,
    weights_k: Any,
    runs: Any,
    stride: int,
    lengths: Any,
) -> None:
    """Multiply a field ``(3, I, J, K)`` at the voxels of runs by the weights of all axes.

    ``lengths`` ``(I', J', K)`` become the vectors' lengths in every ``stride``-th row of every
    ``stride``-th plane.
    """
    x, y, z = field[0], field[1], field[2]
    for i in range(first, last):
        for j in range(x.shape[1]):
            if runs[i, j, 1] <= runs[i, j, 0]:
                continue
            a, b = np.uint64(runs[i, j, 0]), np.uint64(runs[i, j, 1])
            both = weights_i[i] * weights_j[j]
            for k in range(a, b):
                x[i, j, k] *= both * weights_k[k]
                y[i, j, k] *= both * weights_k[k]
                z[i, j, k] *= both * weights_k[k]
            if i % stride == 0 and j % stride == 0:
                row = lengths[i // stride, j // stride]
                for k in range(a, b):
                    dx, dy, dz = x[i, j, k], y[i, j, k], z[i, j, k]
                    row[k] = np.sqrt(dx * dx + dy * dy + dz * dz)


def apply_boundary_window(
    vectors: Tensor, weights: Sequence[Tensor], region: Region | None, quantile: float
) -> float:
    """Multiply at the voxels of the region; vectors must be contiguous."""
    field = as_field(vectors[0])
    along = [w.to(vectors).numpy() for w in three_axes(weights, torch.ones(1))]
    runs = runs_of(region, field)
    stride = length_stride(field.shape[1:])
    measured = np.zeros([-(-n // stride) for n in field.shape[1:3]] + [field.shape[3]], field.dtype)
    work = runs.lengths.sum(axis=1)
    run(window_planes, len(work), field, *along, runs.runs, stride, measured, work=work)
    if vectors.shape[1] == 2:
        vectors[0].copy_(torch.from_numpy(field[1:, 0]))
    return length_quantile(measured[measured > 0], quantile)
