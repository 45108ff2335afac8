"""How unlike the neighbourhoods of a voxel's neighbours are to one another."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.kernels import dispatch, reference


def self_similarity(image: Tensor, noise: Tensor, radius: int, dilation: int) -> Tensor:
    """The exponents of MIND-SSC: ``(min D - D) / max(mean D, noise)``, from 0 downward.

    D are the sums of squared differences of the patches around two of a voxel's neighbours that are
    no opposites, for all such pairs (Heinrich et al. 2013, doi:10.1007/978-3-642-40811-3_24);
    beyond its faces the image goes on as its outer voxels.

    Args:
        image: ``(B, C, *shape)``.
        noise: ``(B, C)``, the least mean D to divide by; above 0.
        radius: half a patch's edge, in voxels.
        dilation: how far the neighbours lie from the voxel, in voxels.

    Returns:
        ``(B, C, pairs, *shape)``, 4 pairs in 2D and 12 in 3D; differentiable in the image.
    """
    if dispatch.fused(image) and not (torch.is_grad_enabled() and image.requires_grad):
        from stn3d.kernels import cpu

        return cpu.self_similarity(image, noise, radius, dilation)
    return reference.self_similarity(image, noise, radius, dilation)
