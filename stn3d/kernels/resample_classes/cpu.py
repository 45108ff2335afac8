"""The largest of the interpolated probabilities, row by row.

Where all voxels of a cell have the same most probable class, it is that of every point within,
unless another class has a larger factor: most cells need no interpolation.
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
def _interpolate(values: Any, p: Any, step: Any, fi: Any, fj: Any, fk: Any, mixed: Any) -> None:
    """Write the probabilities of all classes at a position within the cell at ``p``."""
    si, sj, sk = step
    q, r, s = p + sj, p + si, p + si + sj
    a, b, c, d = values[p], values[p + sk], values[q], values[q + sk]
    e, f, g, h = values[r], values[r + sk], values[s], values[s + sk]
    for n in range(len(mixed)):
        low = lerp(lerp(a[n], b[n], fk), lerp(c[n], d[n], fk), fj)
        high = lerp(lerp(e[n], f[n], fk), lerp(g[n], h[n], fk), fj)
        mixed[n] = lerp(low, high, fi)


@kernel
def _largest(mixed: Any) -> Any:
    """The class with the largest value."""
    found = 0
    for n in range(1, len(mixed)):
        if mixed[n] > mixed[found]:
            found = n
    return found


@kernel
def _has_largest_factor(group: Any, factors: Any) -> Any:
    """Whether no other group, nor a class without a group, has a larger factor at a voxel.

    Args:
        group: the group, -1 for none.
        factors: ``(n,)`` factors of the groups at the voxel.
    """
    own, largest = factors[group] if group >= 0 else 1.0, 1.0
    for n in range(len(factors)):
        largest = max(largest, factors[n])
    return own >= largest


@kernel
def resample_classes_planes(
    first: int,
    last: int,
    values: Any,
    best: Any,
    path: Any,
    factors: Any,
    groups: Any,
    out: Any,
) -> None:
    """``out(x)`` is the most probable class at ``path(x)``.

    Args:
        values: ``(voxels, classes)`` probabilities.
        best: ``(I, J, K)`` the most probable class of each voxel.
        path: output voxels to indices of the probabilities.
        factors: ``(n, *out.shape)`` factors of the groups; of any shape without groups.
        groups: ``(classes,)`` group of each class, -1 for none.
        out: the output's shape.
    """
    flat, shape, step = best.ravel(), best.shape, steps(best.shape)
    nj, nk = out.shape[1], out.shape[2]
    x, buffers = np.empty((3, nk), np.float64), scratch(nk, path.vectors)
    fraction, within = np.empty((3, nk), values.dtype), np.empty(nk, values.dtype)
    index, mixed = np.empty(nk, np.int32), np.empty(values.shape[1], values.dtype)
    corner = index.view(np.uint32)
    fi, fj, fk = fraction[0], fraction[1], fraction[2]
    here = np.empty(len(factors), values.dtype)
    for i in range(first, last):
        for j in range(nj):
            mapped_row(i, j, path, buffers, x)
            locate(x, shape, index, fraction, within)
            for k in range(nk):
                p = corner[k]
                if within[k] == 0:
                    out[i, j, k] = 0
                    continue
                for n in range(len(here)):
                    here[n] = factors[n, i, j, k]
                one = flat[p]
                if _is_uniform(flat, p, step) and _has_largest_factor(groups[one], here):
                    out[i, j, k] = one
                    continue
                _interpolate(values, p, step, fi[k], fj[k], fk[k], mixed)
                for n in range(len(mixed)):
                    if groups[n] >= 0:
                        mixed[n] *= here[groups[n]]
                out[i, j, k] = _largest(mixed)


def resample_classes(
    probabilities: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    factors: Tensor | None,
    groups: Sequence[int],
) -> Tensor:
    """Find the classes plane by plane."""
    last = probabilities.detach().movedim(1, -1).contiguous()
    values, own = last.flatten(0, -2).numpy(), probabilities.shape[2:]
    best = volumes(last.argmax(dim=-1).to(torch.uint8).reshape(1, 1, *own))[0]
    out = torch.zeros(1, 1, *shape, dtype=torch.uint8)
    path, target = path_of(matrix, shape, None, probabilities.dtype), volumes(out)[0]
    if factors is None:
        factors = probabilities.new_zeros(1, 0, *shape)
        groups = [-1] * probabilities.shape[1]
    of_class = np.asarray(groups, np.int64)
    weights = volumes(factors.to(probabilities.dtype))
    run(resample_classes_planes, len(target), values, best, path, weights, of_class, target)
    return out
