"""Which tensors the CPU's loops take; the rest goes to plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def fused(*tensors: Tensor | None) -> bool:
    """Whether the CPU's loops take these tensors; they count a volume's voxels in 31 bits."""
    return all(
        t is None
        or (
            t.device.type == "cpu"
            and t.dtype in (torch.float32, torch.float64)
            and t.shape[2:].numel() < 1 << 31
        )
        for t in tensors
    )
