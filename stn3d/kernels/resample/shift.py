"""Recognition of matrices that shift a grid by whole voxels, which need no interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def whole_shift(matrix: Tensor, shape: Sequence[int]) -> list[int] | None:
    """The whole voxels by which a matrix translates a grid; None for any other matrix."""
    if matrix.requires_grad:
        return None
    shift = matrix[:-1, -1].round()
    gap = matrix[:-1].clone()
    gap[:, :-1] -= torch.eye(len(shape)).to(gap)
    gap[:, -1] -= shift
    far = torch.tensor([*shape, 1.0]).to(gap)
    return shift.int().tolist() if float((gap.abs() @ far).max()) < 1e-6 else None
