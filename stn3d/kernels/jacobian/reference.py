"""Jacobian determinants by ``torch.gradient``."""

from __future__ import annotations

import torch
from torch import Tensor


def jacobian_determinant(displacement_vox: Tensor) -> Tensor:
    """Determinants of stacked derivatives."""
    moved = displacement_vox.movedim(1, -1)
    d = moved.shape[-1]
    columns = [
        torch.gradient(moved, dim=axis)[0] if moved.shape[axis] > 1 else torch.zeros_like(moved)
        for axis in range(1, d + 1)
    ]
    result: Tensor = torch.linalg.det(torch.stack(columns, dim=-1) + torch.eye(d).to(moved))
    return result
