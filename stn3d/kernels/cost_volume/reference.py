"""Products of features with those nearby."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor


def local_products(fixed: Tensor, moved: Tensor, radius: int) -> Tensor:
    """Mean over channels of ``fixed(x) moved(x + o)`` for all offsets o within a radius."""
    shape = fixed.shape[2:]
    around = F.pad(moved, [radius] * 2 * len(shape))
    planes = []
    for offset in product(range(2 * radius + 1), repeat=len(shape)):
        near = around
        for axis, (start, n) in enumerate(zip(offset, shape, strict=True), start=2):
            near = near.narrow(axis, start, n)
        planes.append((fixed * near).mean(dim=1))
    return torch.stack(planes, dim=1)
