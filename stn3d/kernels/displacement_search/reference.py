"""Discrete search, candidate by candidate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.kernels.box_sum.reference import box_sum


def displacement_cost(
    fixed: Tensor, moved: Tensor, weight: Tensor, offsets: Tensor, radius: int
) -> Tensor:
    """Squared differences from shifted views of the extended moved features."""
    shape = fixed.shape[2:]
    reach = int(offsets.abs().max())
    padded = F.pad(moved, [reach] * 2 * len(shape), mode="replicate")
    radii = [radius] * len(shape)
    count = box_sum(torch.ones_like(weight), radii)
    planes = []
    for offset in offsets.tolist():
        shifted = padded
        for axis, (step, n) in enumerate(zip(offset, shape, strict=True), start=2):
            shifted = shifted.narrow(axis, reach + step, n)
        distance = weight * (fixed - shifted).square().mean(dim=1, keepdim=True)
        planes.append(box_sum(distance, radii) / count)
    return torch.cat(planes, dim=1)


def cheapest_displacement(
    cost: Tensor, offsets: Tensor, field_vox: Tensor, coupling: float
) -> Tensor:
    """The lowest sum so far, over all candidates."""
    best = torch.full_like(cost[:, :1], torch.inf)
    found = torch.zeros_like(field_vox)
    candidates = offsets.to(field_vox).reshape(*offsets.shape, *[1] * (field_vox.ndim - 2))
    for number, candidate in enumerate(candidates):
        away = (candidate - field_vox).square().sum(dim=1, keepdim=True)
        total = cost[:, number : number + 1] + coupling * away
        found = torch.where(total < best, candidate, found)
        best = torch.minimum(total, best)
    return found
