"""The largest of the interpolated probabilities, row by row.

Where all voxels of a cell have the same most probable class, it is that of every point within: most
cells need no interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels.common.interpolation import lerp, locate, steps
from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import volumes
from stn3d.kernels.resample.rows import mapped_row, path_of, scratch


@kernel
def _is_uniform(best: Any, p: Any, step: Any) -> Any:
    """Whether the eight voxels of the cell at flat index ``p`` have one most probable class."""
    si, sj, sk = step
    q, r, s = p + sj, p + si, p + si + sj
    one = best[p]
    same = best[p + sk] == one and best[q] == one and best[q + sk] == one
    same = same and best[r] == one and best[r + sk] == one
    return same and best[s] == one and best[s + sk] == one


@kernel
def _most_probable(values: Any, p: Any, step: Any, fi: Any, fj: Any, fk: Any, mixed: Any) -> Any:
    """The class with the largest probability at a position within the cell at ``p``."""
    si, sj, sk = step
    q, r, s = p + sj, p + si, p + si + sj
    a, b, c, d = values[p], values[p + sk], values[q], values[q + sk]
    e, f, g, h = values[r], values[r + sk], values[s], values[s + sk]
    for n in range(len(mixed)):
        low = lerp(lerp(a[n], b[n], fk), lerp(c[n], d[n], fk), fj)
        high = lerp(lerp(e[n], f[n], fk), lerp(g[n], h[n], fk), fj)
        mixed[n] = lerp(low, high, fi)
    found = 0
    for n in range(1, len(mixed)):
        if mixed[n] > mixed[found]:
            found = n
    return found


@kernel
def resample_classes_planes(
    first: int, last: int, values: Any, best: Any, path: Any, out: Any
) -> None:
    """``out(x)`` is the most probable class at ``path(x)``.

    Args:
        values: ``(voxels, classes)`` probabilities.
        best: ``(I, J, K)`` the most probable class of each voxel.
        path: output voxels to indices of the probabilities.
        out: the output's shape.
    """
    flat, shape, step = best.ravel(), best.shape, steps(best.shape)
    nj, nk = out.shape[1], out.shape[2]
    x, buffers = np.empty((3, nk), np.float64), scratch(nk, path.vectors)
    fraction, within = np.empty((3, nk), values.dtype), np.empty(nk, values.dtype)
    index, mixed = np.empty(nk, np.int32), np.empty(values.shape[1], values.dtype)
    corner = index.view(np.uint32)
    fi, fj, fk = fraction[0], fraction[1], fraction[2]
    for i in range(first, last):
        for j in range(nj):
            mapped_row(i, j, path, buffers, x)
            locate(x, shape, index, fraction, within)
            for k in range(nk):
                p = corner[k]
                if within[k] == 0:
                    out[i, j, k] = 0
                elif _is_uniform(flat, p, step):
                    out[i, j, k] = flat[p]
                else:
                    out[i, j, k] = _most_probable(values, p, step, fi[k], fj[k], fk[k], mixed)


def resample_classes(probabilities: Tensor, matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """Find the classes plane by plane."""
    last = probabilities.detach().movedim(1, -1).contiguous()
    values, own = last.flatten(0, -2).numpy(), probabilities.shape[2:]
    best = volumes(last.argmax(dim=-1).to(torch.uint8).reshape(1, 1, *own))[0]
    out = torch.zeros(1, 1, *shape, dtype=torch.uint8)
    path, target = path_of(matrix, shape, None, probabilities.dtype), volumes(out)[0]
    run(resample_classes_planes, len(target), values, best, path, target)
    return out
