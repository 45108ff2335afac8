"""Votes of the voxels of a cell by gathering them, in slabs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from stn3d.kernels.common.points import inside
from stn3d.kernels.resample.reference import points_by_slabs
from stn3d.kernels.resample.types import Displacement

TIE = 1e-4
"""Sums of weights that differ by less are equal."""


def resample_labels(
    labels: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    displacement: Displacement | None,
    outside_label: int,
) -> Tensor:
    """Find the winners slab by slab."""
    parts = []
    for slab, points in points_by_slabs(matrix, shape, displacement, labels.device):
        winners = _winners(labels, points[0])
        beyond = ~inside(points[0], tuple(labels.shape[2:]))
        winners[beyond] = outside_label
        parts.append(winners.reshape(1, 1, *slab))
    return torch.cat(parts, dim=2)


def _winners(labels: Tensor, points: Tensor) -> Tensor:
    """``(N,)`` labels at ``(N, d)`` points, clamped to the centres of the outer voxels."""
    top = torch.tensor(labels.shape[2:], device=points.device) - 1
    points = torch.minimum(points.nan_to_num().clamp(min=0), top.to(points))
    base = points.floor()
    fraction, lower = points - base, base.long()
    votes, weights = [], []
    for corner in product((0, 1), repeat=points.shape[1]):
        step = torch.tensor(corner, device=points.device)
        voxel = torch.minimum(lower + step, top)
        votes.append(labels[0, 0][tuple(voxel.unbind(-1))])
        weights.append(torch.where(step > 0, fraction, 1 - fraction).prod(dim=-1))
    labels_here, weight = torch.stack(votes, dim=1), torch.stack(weights, dim=1)
    alike = labels_here[:, :, None] == labels_here[:, None, :]
    total = (alike * weight[:, None, :]).sum(dim=-1)
    wins = total >= total.amax(dim=1, keepdim=True) - TIE
    largest = torch.iinfo(labels.dtype).max
    return torch.where(wins, labels_here, largest).amin(dim=1)
