"""The local correlation of two images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stn3d.kernels import dispatch, reference
from stn3d.kernels.region import Region


def lncc(
    fixed: Tensor,
    moved: Tensor,
    weight: Tensor | None,
    radii: Sequence[int],
    noise_fixed: float,
    noise_moved: float,
    windows: Region | None = None,
) -> Tensor:
    """One minus the mean squared correlation in a window around each voxel, from 0 to 1.

    Windows count by their texture, ``A / (A + 10 noise_fixed)`` for the fixed image's variance A.

    Args:
        fixed: ``(B, C, *shape)``.
        moved: the same shape.
        weight: of voxels, ``(B or 1, 1, *shape)``; None counts all.
        radii: half the window's edge along each axis, in voxels.
        noise_fixed: variance of the fixed image that counts as noise.
        noise_moved: the same of the moved image.
        windows: where the centres of windows with any texture are, if that is known.

    Returns:
        A scalar; differentiable once in fixed, moved and weight.
    """
    options = (tuple(radii), float(noise_fixed), float(noise_moved))
    if dispatch.fused(fixed, moved, weight):
        result: Tensor = _Lncc.apply(fixed, moved, weight, *options, windows)
        return result
    return reference.lncc(fixed, moved, weight, *options)


class _Lncc(torch.autograd.Function):
    """The local correlation by the CPU's loops; its gradient is found along with it."""

    @staticmethod
    def forward(
        ctx: Any,
        fixed: Tensor,
        moved: Tensor,
        weight: Tensor | None,
        radii: tuple[int, ...],
        noise_fixed: float,
        noise_moved: float,
        windows: Region | None,
    ) -> Tensor:
        from stn3d.kernels import cpu

        by_fixed, by_moved, by_weight = ctx.needs_input_grad[:3]
        options = radii, noise_fixed, noise_moved, windows
        value, to_moved, to_fixed, to_weight = cpu.lncc(
            fixed, moved, weight, *options, by_moved, by_fixed or by_weight
        )
        ctx.save_for_backward(
            to_fixed if by_fixed else None,
            to_moved if by_moved else None,
            to_weight if by_weight else None,
        )
        return fixed.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        slopes = ctx.saved_tensors
        if float(gradients[0]) != 1:  # spares a pass over the volume
            slopes = [None if s is None else gradients[0] * s for s in slopes]
        return *slopes, None, None, None, None
