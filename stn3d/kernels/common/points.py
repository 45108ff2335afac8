"""Index coordinates of voxels, and the domain of a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.arguments import tensor_arguments


@tensor_arguments(["points_index"])
def inside(points_index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Which points lie in the physical domain of a grid of this shape; ``(...)`` bool.

    As in ITK the lower faces belong to the domain and the upper faces do not.
    """
    size = torch.tensor(shape, dtype=points_index.dtype, device=points_index.device)
    return ((points_index >= -0.5) & (points_index < size - 0.5)).all(dim=-1)


def points_of(shape: Sequence[int], like: Tensor) -> Tensor:
    """Index coordinates of all voxels, ``(*shape, d)``."""
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
