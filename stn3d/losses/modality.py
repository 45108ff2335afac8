"""How unlike two images of different modalities are: lower is better, a mask is always an argument.

Images are ``(B, C, *shape)`` on one grid; masks are weights ``(B or 1, 1, *shape)`` from 0 to 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d import kernels
from stn3d.losses.similarity import masked_mean, variance


def mind_ssc(
    fixed: Tensor,
    moved: Tensor,
    mask: Tensor | None = None,
    *,
    radius: int = 1,
    dilation: int = 2,
) -> Tensor:
    """Mean squared difference of the two images' `mind_descriptor`, from 0 to 1.

    It ignores contrast, inverted too, wherever that is locally a linear function of brightness. A
    voxel counts by `mind_weight`, so voxels of weight 0 have no influence.

    Args:
        fixed: ``(B, C, *shape)``.
        moved: the same shape.
        mask: weights of voxels, ``(B or 1, 1, *shape)``.
        radius, dilation: see `mind_descriptor`.

    Returns:
        A scalar; differentiable in both images.
    """
    weight = None if mask is None else mask.to(moved)
    gap = mind_descriptor(moved, weight, radius=radius, dilation=dilation) - mind_descriptor(
        fixed, weight, radius=radius, dilation=dilation
    )
    known = None if weight is None else mind_weight(weight, radius=radius, dilation=dilation)
    return masked_mean(gap**2, known)


def mind_descriptor(
    image: Tensor,
    mask: Tensor | None = None,
    *,
    radius: int = 1,
    dilation: int = 2,
    floor: float = 1e-3,
) -> Tensor:
    """MIND-SSC: how unlike each voxel's neighbours are to one another, from 0 to 1 (most alike).

    Heinrich et al. 2013, doi:10.1007/978-3-642-40811-3_24: ``exp(-(D - min D) / mean D)`` for the
    mean squared differences D of the patches around two neighbours that are no opposites; 12 such
    pairs in 3D, 4 in 2D. Beyond its faces the image goes on as its outer voxels.

    Args:
        image: ``(B, C, *shape)``.
        mask: weights of voxels, ``(B or 1, 1, *shape)``, for the image's variance.
        radius: half a patch's edge, in voxels.
        dilation: how far the neighbours lie from the voxel, in voxels.
        floor: mean D, as a share of its own image's variance, that counts as noise.

    Returns:
        ``(B, C * pairs, *shape)``; differentiable in the image.
    """
    noise = floor * (2 * radius + 1) ** (image.ndim - 2) * _variances(image, mask)
    noise += torch.finfo(image.dtype).tiny ** 0.5
    exponents = kernels.self_similarity(image, noise.expand(image.shape[:2]), radius, dilation)
    return exponents.exp_().flatten(1, 2)


def _variances(image: Tensor, mask: Tensor | None) -> Tensor:
    """The variance of each image of a batch within the mask, ``(B, 1)``."""
    masks = [None] * len(image) if mask is None else mask.expand(len(image), *mask.shape[1:])
    each = [
        variance(one[None], None if own is None else own[None])
        for one, own in zip(image, masks, strict=True)
    ]
    return image.new_tensor(each)[:, None]


def mind_channels(spatial_dims: int) -> int:
    """The channels of `mind_descriptor` for each of an image: 4 in 2D, 12 in 3D."""
    return 2 * spatial_dims * (spatial_dims - 1)


def mind_weight(mask: Tensor, *, radius: int = 1, dilation: int = 2) -> Tensor:
    """The least weight of all that a voxel's descriptor reads; beyond the faces it reads no others.

    Args:
        mask: weights of voxels, ``(B or 1, 1, *shape)``.
        radius, dilation: see `mind_descriptor`.

    Returns:
        Weights of the same shape.
    """
    reach = radius + dilation
    d = mask.ndim - 2
    pool = F.max_pool2d if d == 2 else F.max_pool3d
    least = -mask
    for axis in range(d):
        size = [2 * reach + 1 if a == axis else 1 for a in range(d)]
        least = pool(least, size, stride=1, padding=[k // 2 for k in size])
    return -least
