"""Gaussian smoothing, and diffusion of a field's divergence."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation
from stn3d.kernels.common.region import Region


def gaussian_smooth(
    image: Tensor,
    sigma_vox: Sequence[float],
    region: Region | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Convolve with a Gaussian along each axis, truncated at three sigmas.

    The image is extended by its outermost voxels. An axis with a sigma below 0.1 voxel is not
    smoothed. Carries no gradient.

    Args:
        image: ``(B, C, *shape)``.
        sigma_vox: standard deviation along each axis.
        region: voxels to compute; all by default.
        out: result, not the image itself; unchanged outside the region.
    """
    return implementation(__name__, image).gaussian_smooth(image, sigma_vox, region, out)


def diffuse_divergence(
    field_vox: Tensor, weights: Sequence[float], region: Region, out: Tensor
) -> Tensor:
    """``u + w grad div u``: smooths local volume change, but neither rotation nor shear.

    Differences of neighbouring voxels. Stable for weights up to about 1/6 in combination with
    `gaussian_smooth`. Carries no gradient.

    Args:
        field_vox: ``(1, d, *shape)``.
        weights: one per axis; on an anisotropic grid proportional to the inverse squared spacings.
        region: voxels to compute, without the grid's outermost voxels.
        out: result; unchanged outside the region.
    """
    wide = field_vox.shape[-1] > 1
    return implementation(__name__, field_vox, when=wide).diffuse_divergence(
        field_vox, weights, region, out
    )
