"""Votes of the eight voxels of a cell, row by row; most cells lie within one label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.common.interpolation import locate, steps
from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import volumes
from stn3d.kernels.resample.rows import mapped_row, path_of, scratch
from stn3d.kernels.resample.types import Displacement
from stn3d.kernels.resample_labels.reference import TIE


@kernel
def _read_cell(values: Any, p: Any, step: Any, votes: Any) -> Any:
    """The eight labels of the cell at flat index ``p``; whether they are all equal."""
    si, sj, sk = step
    q, r, s = p + sj, p + si, p + si + sj
    votes[0], votes[1], votes[2], votes[3] = values[p], values[p + sk], values[q], values[q + sk]
    votes[4], votes[5], votes[6], votes[7] = values[r], values[r + sk], values[s], values[s + sk]
    same = True
    for n in range(1, 8):
        same = same and votes[n] == votes[0]
    return same


@kernel
def _weigh_cell(fi: Any, fj: Any, fk: Any, weights: Any) -> None:
    """The linear weights of the eight voxels of a cell."""
    for n in range(8):
        i = fi if n & 4 else 1 - fi
        j = fj if n & 2 else 1 - fj
        weights[n] = i * j * (fk if n & 1 else 1 - fk)


@kernel
def _winner(votes: Any, weights: Any, total: Any, tie: Any) -> Any:
    """The label with the largest sum of weights; the smallest of those within ``tie``."""
    best = 0.0
    for n in range(8):
        total[n] = 0.0
        for m in range(8):
            if votes[m] == votes[n]:
                total[n] += weights[m]
        best = max(best, total[n])
    label, found = votes[0], False
    for n in range(8):
        if total[n] >= best - tie and (not found or votes[n] < label):
            label, found = votes[n], True
    return label


@kernel
def resample_labels_planes(
    first: int, last: int, labels: Any, path: Any, outside: Any, tie: Any, out: Any
) -> None:
    """``out(x)`` is the winner of the votes at ``path(x)``.

    Args:
        labels: ``(I, J, K)``.
        path: output voxels to indices of the label map.
        outside: label beyond the domain.
        tie: sums of weights that differ by less are equal.
        out: the output's shape.
    """
    values, shape, step = labels.ravel(), labels.shape, steps(labels.shape)
    nj, nk = out.shape[1], out.shape[2]
    x, buffers = np.empty((3, nk), np.float64), scratch(nk, path.vectors)
    fraction, within = np.empty((3, nk), np.float64), np.empty(nk, np.float64)
    index, votes = np.empty(nk, np.int32), np.empty(8, labels.dtype)
    weights, total = np.empty(8, np.float64), np.empty(8, np.float64)
    corner = index.view(np.uint32)
    for i in range(first, last):
        for j in range(nj):
            mapped_row(i, j, path, buffers, x)
            locate(x, shape, index, fraction, within)
            for k in range(nk):
                if within[k] == 0:
                    out[i, j, k] = outside
                elif _read_cell(values, corner[k], step, votes):
                    out[i, j, k] = votes[0]
                else:
                    _weigh_cell(fraction[0, k], fraction[1, k], fraction[2, k], weights)
                    out[i, j, k] = _winner(votes, weights, total, tie)


def resample_labels(
    labels: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    displacement: Displacement | None,
    outside_label: int,
) -> Tensor:
    """Find the winners plane by plane."""
    source, out = volumes(labels)[0], labels.new_empty(1, 1, *shape)
    path, target = path_of(matrix, shape, displacement, torch.float32), volumes(out)[0]
    outside = source.dtype.type(outside_label)
    run(resample_labels_planes, len(target), source, path, outside, TIE, target)
    return out
