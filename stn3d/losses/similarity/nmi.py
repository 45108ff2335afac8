"""Normalised mutual information."""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.arguments import tensor_arguments
from stn3d.losses.similarity.base import (
    SMOOTHER_FIELD,
    ImageMetric,
    LossContext,
    StageSettings,
)


@tensor_arguments()
def nmi(fixed: Tensor, moved: Tensor, mask: Tensor | None = None, *, bins: int = 32) -> Tensor:
    """Two minus normalised mutual information, ``2 - (H(f) + H(m)) / H(f, m)``: 1 is unrelated.

    Studholme et al. 1999, doi:10.1016/S0031-3203(98)00091-0, eq. 9. The histogram is
    `stn3d.kernels.joint_histogram`; its soft bins keep the loss above 0 even for equal images.

    Args:
        fixed: ``(B, C, *shape)``, intensities from 0 to 1; others are clamped to that range.
        moved: The same shape.
        mask: Weights of voxels, ``(B or 1, 1, *shape)``.
        bins: Number of bins for each image, at least 5.

    Returns:
        A scalar, the mean over batch and channels; differentiable once in ``moved``.

    Raises:
        InputError: There are fewer than 5 bins.
    """
    weight = None if mask is None else mask.to(moved)
    joint = kernels.joint_histogram(fixed, moved, weight, bins).double()
    probability = joint / joint.sum(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    marginal = kernels.entropy(probability.sum(-1)) + kernels.entropy(probability.sum(-2))
    together = kernels.entropy(probability.flatten(-2))
    # Without any weight there is no entropy: the images are taken for unrelated.
    ratio = torch.where(together > 0, marginal / together.clamp(min=1e-12), 1.0)
    return (2 - ratio).mean().to(moved.dtype)


@final
class MutualInformation(ImageMetric):
    """Normalised mutual information of the joint histogram.

    One histogram of the whole image says little about a single voxel. The field must therefore be
    smoother, the finest level adds nothing, and the loss has small local minima.
    """

    name = "nmi"
    contrast = "different"
    needs_many_voxels = True
    loss_arrays = 5
    stage_settings: ClassVar[StageSettings] = {
        "fast": {
            "linear": {"factors": (8,), "restarts": 4},
            "deformable": {"factors": (8, 4, 2), "iterations": (20, 20, 10), **SMOOTHER_FIELD},
        },
        "default": {
            "linear": {"restarts": 4},
            "deformable": {"factors": (8, 4, 2), "iterations": (80, 80, 80), **SMOOTHER_FIELD},
        },
        "accurate": {
            "linear": {"final_factors": (8, 4, 2, 1), "restarts": 4},
            "deformable": {"iterations": (120, 120, 80, 25), **SMOOTHER_FIELD},
        },
    }

    def loss(
        self, fixed: Tensor, moved: Tensor, weight: Tensor | None, context: LossContext
    ) -> Tensor:
        return nmi(fixed, moved, weight)
