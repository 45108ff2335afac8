"""Means and variances of images within a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.reductions import voxel_mean, voxel_sum


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of ``(B, C, *shape)`` values, weighted by a mask; the plain mean without one.

    Args:
        values: ``(B, C, *shape)``.
        mask: Weights of voxels, ``(B or 1, 1, *shape)``.

    Returns:
        A scalar; 0 where no voxel has weight.
    """
    if mask is None:
        return voxel_mean(values)
    weight = mask.to(values).expand_as(values)
    return voxel_sum(weight * values) / voxel_sum(weight).clamp(min=1e-12)


@torch.no_grad()
def variance(image: Tensor, weight: Tensor | None = None) -> float:
    """Variance of an image within a mask.

    A constant image has a variance slightly above 0, the size of the rounding errors.

    Args:
        image: ``(B, C, *shape)``.
        weight: Weights of voxels, ``(B or 1, 1, *shape)``.
    """
    centre = masked_mean(image, weight)
    rounding = 1e5 * torch.finfo(image.dtype).eps * centre**2
    return float(masked_mean((image - centre) ** 2, weight) + rounding)
