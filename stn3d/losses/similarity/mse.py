"""Mean squared difference."""

from __future__ import annotations

from typing import final

from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.losses.masked import masked_mean
from stn3d.losses.similarity.base import ImageMetric, LossContext


@tensor_arguments()
def mse(fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference of two images.

    Args:
        fixed: ``(B, C, *shape)``.
        moved: The same shape.
        mask: Weights of voxels, ``(B or 1, 1, *shape)``.

    Returns:
        A scalar in the images' squared units, differentiable in all three arguments.
    """
    return masked_mean((fixed - moved) ** 2, mask)


@final
class MeanSquaredError(ImageMetric):
    """Mean squared difference of intensities."""

    name = "mse"
    contrast = "same"

    def loss(
        self, fixed: Tensor, moved: Tensor, weight: Tensor | None, context: LossContext
    ) -> Tensor:
        return mse(fixed, moved, weight)
