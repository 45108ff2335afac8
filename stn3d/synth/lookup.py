"""Table look-up through a label map at the voxels of a grid: numba on the CPU, PyTorch elsewhere.

Coordinates are given on a lattice of nodes at every second voxel and interpolated linearly, so each
voxel needs one interpolation and one read of the label map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stn3d.kernels import sample_linear
from stn3d.kernels.common.jit import kernel, run
from stn3d.kernels.common.tensors import as_field, three_axes


def look_up(
    codes: Tensor,
    table: Tensor,
    nodes: Tensor,
    shape: Sequence[int],
    offsets: Sequence[Sequence[float]],
) -> Tensor:
    """The sum of ``table[codes[nearest]]`` over points in each voxel of a grid.

    Args:
        codes: ``(*map shape)`` uint8 label map.
        table: ``(256,)`` value of each code; the first entry is also used outside the map.
        nodes: ``(d, *coarse)`` float32 indices into the map at every second voxel of the grid.
        shape: Shape of the grid.
        offsets: Points relative to the voxel centre, d numbers each, at most 0.5 voxels.

    Returns:
        ``(*shape)`` in the dtype of the table.
    """
    if codes.device.type != "cpu":
        return look_up_reference(codes, table, nodes, shape, offsets)
    out = torch.zeros(tuple(shape), dtype=table.dtype)
    d = codes.ndim
    volume, sums = codes.numpy(), out.numpy()
    if d == 2:
        volume, sums = volume[None], sums[None]
    shifts = np.array([three_axes(offset, 0.0) for offset in offsets], np.float32)
    field = as_field(nodes)
    run(look_up_planes, len(sums), volume, table.numpy(), field, shifts, sums)
    return out


@kernel
def _node_positions(n: Any, shift: Any, nodes: Any) -> Any:
    """The nodes before and after each of n voxels, and the fractional position between them."""
    low, high = np.empty(n, np.int32), np.empty(n, np.int32)
    fraction = np.empty(n, np.float32)
    for i in range(n):
        at = np.float32(0.5) * (np.float32(i) + shift)
        low[i] = min(max(int(np.floor(at)), 0), max(nodes - 2, 0))
        high[i] = min(low[i] + 1, nodes - 1)
        fraction[i] = at - np.float32(low[i])
    return low, high, fraction


@kernel
def _interpolate_rows(p: Any, q: Any, r: Any, t: Any, across: Any, along: Any, out: Any) -> None:
    """Bilinear interpolation of four rows of nodes, plus 0.5 so that truncation rounds."""
    for k in range(len(out)):
        low = p[k] + across * (q[k] - p[k])
        high = r[k] + across * (t[k] - r[k])
        out[k] = low + along * (high - low) + np.float32(0.5)


@kernel
def _nearest_indices(row: Any, low: Any, high: Any, fraction: Any, out: Any) -> None:
    """The nearest index along one axis of the map for each voxel of a row."""
    for k in range(len(out)):
        a = row[low[k]]
        out[k] = np.int32(np.floor(a + fraction[k] * (row[high[k]] - a)))


@kernel
def look_up_planes(
    first: int, last: int, codes: Any, table: Any, nodes: Any, shifts: Any, out: Any
) -> None:
    """`look_up` for a range of planes; arrays have three axes, a 2D grid has one of length 1."""
    ni, nj, nk = nodes.shape[1:]
    ci, cj, ck = codes.shape
    flat = codes.ravel()
    row, at = np.empty(nk, np.float32), np.empty((3, out.shape[2]), np.int32)
    for s in range(len(shifts)):
        low_i, high_i, part_i = _node_positions(out.shape[0], shifts[s, 0], ni)
        low_j, high_j, part_j = _node_positions(out.shape[1], shifts[s, 1], nj)
        low_k, high_k, part_k = _node_positions(out.shape[2], shifts[s, 2], nk)
        for i in range(first, last):
            a, b = low_i[i], high_i[i]
            for j in range(out.shape[1]):
                c, d = low_j[j], high_j[j]
                for axis in range(3):
                    part = nodes[axis]
                    _interpolate_rows(
                        part[a, c], part[b, c], part[a, d], part[b, d], part_i[i], part_j[j], row
                    )
                    _nearest_indices(row, low_k, high_k, part_k, at[axis])
                line = out[i, j]
                for k in range(len(line)):
                    x, y, z = at[0, k], at[1, k], at[2, k]
                    if 0 <= x < ci and 0 <= y < cj and 0 <= z < ck:
                        line[k] += table[flat[(x * cj + y) * ck + z]]
                    else:
                        line[k] += table[0]


def look_up_reference(
    codes: Tensor,
    table: Tensor,
    nodes: Tensor,
    shape: Sequence[int],
    offsets: Sequence[Sequence[float]],
) -> Tensor:
    """`look_up` in PyTorch."""
    axes = [torch.arange(n, device=codes.device, dtype=torch.float32) for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, len(axes))
    size = torch.tensor(codes.shape, device=codes.device)
    total = torch.zeros(points.shape[1], dtype=table.dtype, device=codes.device)
    top = torch.tensor(nodes.shape[1:], device=codes.device) - 1.0
    for offset in offsets:
        at = (points + torch.tensor(offset, device=codes.device)) / 2
        at = torch.minimum(at.clamp(min=0), top)
        index = torch.floor(sample_linear(nodes[None], at)[0].T + 0.5).long()
        inside = ((index >= 0) & (index < size)).all(dim=-1)
        flat = torch.zeros_like(index[:, 0])
        for axis, n in enumerate(codes.shape):
            flat = flat * n + index[:, axis].clamp(0, n - 1)
        total += torch.where(inside, table[codes.flatten()[flat].long()], table[0])
    return total.reshape(tuple(shape))
