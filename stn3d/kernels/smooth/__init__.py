"""Smoothing of images and of fields, and fading out towards the faces."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.kernels import dispatch, reference
from stn3d.kernels.region import Region, placed


def gaussian_smooth(
    image: Tensor,
    sigma_vox: Sequence[float],
    region: Region | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Convolve ``(B, C, *shape)`` with a Gaussian along each axis, cut off at three sigmas.

    Beyond the faces the outer voxels go on. A sigma below 0.1 voxel leaves its axis alone. Carries
    no gradient.

    Args:
        image: ``(B, C, *shape)``.
        sigma_vox: one for each axis.
        region: where the result is wanted; elsewhere ``out`` is left as it is.
        out: where it goes; not the image itself.
    """
    if dispatch.fused(image):
        from stn3d.kernels import cpu

        return cpu.gaussian_smooth(image, sigma_vox, region, out)
    smooth = reference.gaussian_smooth(image, sigma_vox)
    return smooth if out is None else placed(smooth, region, out)


def diffuse_divergence(
    field_vox: Tensor, weights: Sequence[float], region: Region, out: Tensor
) -> Tensor:
    """``u + w grad div u``: level out how a field grows and shrinks, not how it turns and shears.

    Differences are of neighbouring voxels. Stable for weights up to about 1/6 together with what
    `gaussian_smooth` does. Carries no gradient.

    Args:
        field_vox: ``(1, d, *shape)``.
        weights: one for each axis: on a grid of unequal spacings as the inverse squares of these.
        region: where the result is wanted, without the grid's outermost voxels.
        out: where it goes; elsewhere it is left as it is.
    """
    if dispatch.fused(field_vox) and field_vox.shape[-1] > 1:
        from stn3d.kernels import cpu

        return cpu.diffuse_divergence(field_vox, weights, region, out)
    return placed(reference.diffuse_divergence(field_vox, weights), region, out)


def taper(
    vectors: Tensor, weights: Sequence[Tensor], region: Region | None = None, quantile: float = 1.0
) -> float:
    """Weigh the vectors of a field in place, and measure them.

    Args:
        vectors: ``(1, d, *shape)``.
        weights: ``(n,)`` for each axis; their product counts.
        region: where there are any vectors but 0.
        quantile: which one of their lengths is wanted; of vectors that are not 0, in some of the
            rows of a large field, in all of a small one.

    Returns:
        A length; 0 where all vectors are.
    """
    if dispatch.fused(vectors) and vectors.is_contiguous():
        from stn3d.kernels import cpu

        return cpu.taper(vectors, weights, region, quantile)
    part = vectors if region is None else placed(vectors, region, torch.zeros_like(vectors))
    length = reference.taper(part, weights, quantile)
    placed(part, region, vectors)
    return length
