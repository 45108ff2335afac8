"""Linear interpolation by torch's ``grid_sample``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.kernels.common.points import inside


def sample_linear(image: Tensor, points_index: Tensor) -> Tensor:
    """Sample with the nearest voxels' values at the border, then 0 beyond the domain."""
    values = read_clamped(image, points_index)
    within = inside(points_index, tuple(image.shape[2:]))[:, None]
    return torch.where(within, values, torch.zeros_like(values))


def read_clamped(image: Tensor, points: Tensor) -> Tensor:
    """Linear interpolation by ``grid_sample``, whose axes are reversed; clamped at the border."""
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
