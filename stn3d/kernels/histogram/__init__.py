"""Joint histogram and mutual information of two images."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.kernels.common.dispatch import implementation


def joint_histogram(fixed: Tensor, moved: Tensor, weight: Tensor | None, bins: int) -> Tensor:
    """Joint histogram of intensities by Parzen windows.

    Mattes et al. 2003, doi:10.1109/TMI.2003.809072: a voxel contributes to one bin of the fixed
    image and, by a cubic B-spline window, to four bins of the moved image, so that the histogram
    is smooth in the moved intensities.

    Args:
        fixed: ``(B, C, *shape)``, intensities from 0 to 1; others are clipped.
        moved: ``(B, C, *shape)``, likewise.
        weight: weight of each voxel, ``(B or 1, 1, *shape)``; None weights all voxels by 1.
        bins: number of bins for either image, at least 5.

    Returns:
        ``(B, C, bins, bins)``, fixed by moved, with the sum of the weights; differentiable once in
        moved and weight, constant in fixed.

    Raises:
        InputError: fewer than 5 bins.
    """
    if bins < 5:
        raise InputError(f"a histogram needs at least 5 bins for each image; got {bins}.")
    fixed = fixed.detach()
    weight = torch.ones_like(fixed[:, :1]) if weight is None else weight
    weight = weight.to(moved).expand(len(moved), *weight.shape[1:])
    return implementation(__name__, fixed, moved).joint_histogram(fixed, moved, weight, bins)


def mutual_information(fixed: Tensor, moved: Tensor, weight: Tensor | None, bins: int) -> Tensor:
    """Mutual information in nats, the mean over batch and channels.

    Arguments as for `joint_histogram`; 0 where the images are independent or all weights are 0.

    Returns:
        A scalar; differentiable once in moved and weight.
    """
    joint = joint_histogram(fixed, moved, weight, bins)
    joint = joint.double() / joint.double().sum(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    entropies = [entropy(joint.sum(-1)), entropy(joint.sum(-2)), entropy(joint.flatten(-2))]
    return (entropies[0] + entropies[1] - entropies[2]).mean().to(moved.dtype)


def entropy(probability: Tensor) -> Tensor:
    """``-sum p log p`` over the last axis; an empty bin adds nothing and has zero gradient."""
    return torch.special.entr(torch.where(probability > 0, probability, 1.0)).sum(-1)
