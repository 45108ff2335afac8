"""The image force by central differences, row by row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.region import Region
from stn3d.kernels.common.tensors import as_field, volumes


@kernel
def force_planes(first: int, last: int, moved: Any, by_moved: Any, runs: Any, out: Any) -> None:
    """``-by_moved grad moved``, summed over channels, by central differences.

    At the voxels of runs ``(I, J, 2)``, which exclude the faces of axes of more than one voxel.
    """
    channels, ni, nj, nk = moved.shape
    half = moved.dtype.type(0.5)
    si, sj, sk = int(ni > 1), int(nj > 1), int(nk > 1)
    for i in range(first, last):
        for j in range(nj):
            a, b = runs[i, j, 0], runs[i, j, 1]
            if b <= a:
                continue
            along_i, along_j, along_k = out[0, i, j, a:b], out[1, i, j, a:b], out[2, i, j, a:b]
            for k in range(b - a):
                along_i[k], along_j[k], along_k[k] = 0, 0, 0
            for c in range(channels):
                scale = by_moved[c, i, j, a:b]
                below, above = moved[c, i - si, j, a:b], moved[c, i + si, j, a:b]
                left, right = moved[c, i, j - sj, a:b], moved[c, i, j + sj, a:b]
                before, after = moved[c, i, j, a - sk : b - sk], moved[c, i, j, a + sk : b + sk]
                for k in range(b - a):
                    along_i[k] -= half * scale[k] * (above[k] - below[k])
                for k in range(b - a):
                    along_j[k] -= half * scale[k] * (right[k] - left[k])
                for k in range(b - a):
                    along_k[k] -= half * scale[k] * (after[k] - before[k])


def force(moved: Tensor, by_moved: Tensor, region: Region, out: Tensor) -> Tensor:
    """Central differences at the voxels of the region."""
    result, work = as_field(out[0]), region.lengths.sum(axis=1)
    run(force_planes, len(work), volumes(moved), volumes(by_moved), region.runs, result, work=work)
    if out.shape[1] == 2:
        out[0].copy_(torch.from_numpy(result[1:, 0]))
    return out
