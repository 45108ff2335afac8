"""The joint histogram of two images, and what either tells of the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stn3d.errors import InputError
from stn3d.kernels import dispatch, reference


def joint_histogram(fixed: Tensor, moved: Tensor, weight: Tensor | None, bins: int) -> Tensor:
    """How much weight each pair of intensities has.

    Mattes et al. 2003, doi:10.1109/TMI.2003.809072: a voxel counts in one bin of the fixed image
    and, by a cubic B-spline window, in four of the moved one, so that the histogram changes
    smoothly with that.

    Args:
        fixed: ``(B, C, *shape)``, intensities from 0 to 1; others count as the nearest of these.
        moved: the same.
        weight: of voxels, ``(B or 1, 1, *shape)``; None counts all.
        bins: for either image, at least 5.

    Returns:
        ``(B, C, bins, bins)``, fixed by moved, that sums to the weights' sum; differentiable once
        in moved and weight, and in fixed it does not change.

    Raises:
        InputError: there are fewer than 5 bins.
    """
    if bins < 5:
        raise InputError(f"a histogram needs 5 bins or more for each image; got {bins}.")
    fixed = fixed.detach()
    weight = torch.ones_like(fixed[:, :1]) if weight is None else weight
    weight = weight.to(moved).expand(len(moved), *weight.shape[1:])
    if dispatch.fused(fixed, moved):
        result: Tensor = _JointHistogram.apply(fixed.to(moved), moved, weight, bins)
        return result
    return reference.joint_histogram(fixed, moved, weight, bins)


class _JointHistogram(torch.autograd.Function):
    """The histogram by the CPU's loops."""

    @staticmethod
    def forward(ctx: Any, fixed: Tensor, moved: Tensor, weight: Tensor, bins: int) -> Tensor:
        from stn3d.kernels import cpu

        ctx.save_for_backward(fixed, moved, weight)
        return cpu.joint_histogram(fixed, moved, weight, bins)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from stn3d.kernels import cpu

        fixed, moved, weight = ctx.saved_tensors
        return None, *cpu.histogram_slopes(fixed, moved, weight, gradient), None


def mutual_information(fixed: Tensor, moved: Tensor, weight: Tensor | None, bins: int) -> Tensor:
    """How many nats either image tells of the other; the mean over batch and channels.

    Arguments as in `joint_histogram`; 0 where the two are unrelated or nothing has weight.

    Returns:
        A scalar; differentiable once in moved and weight.
    """
    joint = joint_histogram(fixed, moved, weight, bins)
    joint = joint.double() / joint.double().sum(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    entropies = [entropy(joint.sum(-1)), entropy(joint.sum(-2)), entropy(joint.flatten(-2))]
    return (entropies[0] + entropies[1] - entropies[2]).mean().to(moved.dtype)


def entropy(share: Tensor) -> Tensor:
    """``-sum p log p`` over the last axis; an empty bin adds nothing and has no slope."""
    return torch.special.entr(torch.where(share > 0, share, 1.0)).sum(-1)
