"""Cost volume of two feature maps, offset by offset."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor


def cost_volume(fixed: Tensor, moved: Tensor, radius: int) -> Tensor:
    """Products with shifted views of the padded moved features."""
    shape = fixed.shape[2:]
    padded = F.pad(moved, [radius] * 2 * len(shape))
    planes = []
    for offset in product(range(2 * radius + 1), repeat=len(shape)):
        shifted = padded
        for axis, (start, n) in enumerate(zip(offset, shape, strict=True), start=2):
            shifted = shifted.narrow(axis, start, n)
        planes.append((fixed * shifted).mean(dim=1))
    return torch.stack(planes, dim=1)
