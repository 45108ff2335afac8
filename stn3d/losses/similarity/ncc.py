"""Normalised cross-correlation of whole images."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.losses.similarity.base import ImageMetric, LossContext
from stn3d.reductions import voxel_sum


@tensor_arguments()
def ncc(fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
    """One minus Pearson's correlation: 0 for equal images, 1 for unrelated, 2 for inverted ones.

    Args:
        fixed: ``(B, C, *shape)``.
        moved: The same shape.
        mask: Weights of voxels, ``(B or 1, 1, *shape)``.

    Returns:
        A scalar, the mean over batch and channels; differentiable in all three arguments.
    """
    weight = torch.ones_like(fixed[:, :1]) if mask is None else mask.to(fixed)
    total = voxel_sum(weight, 2).clamp(min=1e-12)

    @torch.no_grad()  # the loss is stationary in both means
    def mean(image: Tensor) -> Tensor:
        return (voxel_sum(weight * image, 2) / total).reshape(*image.shape[:2], *axes)

    axes = [1] * (fixed.ndim - 2)
    a, b = fixed - mean(fixed), moved - mean(moved)
    norms = voxel_sum(weight * a * a, 2) * voxel_sum(weight * b * b, 2)
    # The derivative of a square root is infinite at 0. A constant image is unrelated to all others.
    safe = torch.where(norms > 0, norms, torch.ones_like(norms)).sqrt()
    return 1 - (voxel_sum(weight * a * b, 2) / safe).mean()


@final
class Correlation(ImageMetric):
    """Pearson's correlation of the whole images."""

    name = "ncc"
    contrast = "same"
    loss_arrays = 5
    convincing_loss = 0.15

    def loss(
        self, fixed: Tensor, moved: Tensor, weight: Tensor | None, context: LossContext
    ) -> Tensor:
        return ncc(fixed, moved, weight)
