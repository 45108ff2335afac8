"""Reading an image at any points, by torch's ``grid_sample``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_linear(image: Tensor, points_index: Tensor) -> Tensor:
    """Read between voxels; ``(B, C, N)`` at points ``(B, N, d)``. See `stn3d.kernels`."""
    values = read_clamped(image, points_index)
    within = inside(points_index, tuple(image.shape[2:]))[:, None]
    return torch.where(within, values, torch.zeros_like(values))


def inside(points_index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Which points lie in the physical domain of a grid of this shape; ``(...)`` bool.

    As in ITK the lower faces belong to it and the upper faces do not.
    """
    size = torch.tensor(shape, dtype=points_index.dtype, device=points_index.device)
    return ((points_index >= -0.5) & (points_index < size - 0.5)).all(dim=-1)


def read_clamped(image: Tensor, points: Tensor) -> Tensor:
    """Linear interpolation by torch's grid_sample, its axes flipped, clamped at the border."""
    d = image.ndim - 2
    batch = max(image.shape[0], points.shape[0])
    points = points.to(torch.promote_types(points.dtype, image.dtype))
    size = torch.tensor(image.shape[2:], dtype=points.dtype, device=points.device)
    grid = (2 * points / (size - 1).clamp(min=1) - 1).flip(-1).to(image.dtype)
    grid = grid.reshape(grid.shape[0], *[1] * (d - 1), -1, d)
    return F.grid_sample(
        image.expand(batch, *image.shape[1:]),
        grid.expand(batch, *grid.shape[1:]),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    ).reshape(batch, image.shape[1], -1)


def points_of(shape: Sequence[int], like: Tensor) -> Tensor:
    """Index coordinates of all voxels, ``(*shape, d)``."""
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
