"""The image force by differences of shifted views."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.kernels.common.region import Region, store_region


def force(moved: Tensor, by_moved: Tensor, region: Region, out: Tensor) -> Tensor:
    """Central differences everywhere, 0 at the faces, then store the region."""
    components = []
    for axis in range(2, moved.ndim):
        gradient = torch.zeros_like(moved)
        if moved.shape[axis] > 2:
            inner = slice(1, moved.shape[axis] - 1)
            ahead, behind = moved.movedim(axis, 0)[2:], moved.movedim(axis, 0)[:-2]
            gradient.movedim(axis, 0)[inner] = 0.5 * (ahead - behind)
        components.append(-(by_moved * gradient).sum(dim=1))
    return store_region(torch.stack(components, dim=1), region, out)
