"""Self-similarity descriptors (MIND-SSC)."""

from __future__ import annotations

import math
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d import kernels
from stn3d.arguments import tensor_arguments
from stn3d.grid import Grid
from stn3d.losses.masked import masked_mean, variance
from stn3d.losses.similarity.base import EDGE_STAGE_SETTINGS, ImageMetric, LossContext
from stn3d.losses.similarity.mse import mse
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Transform
from stn3d.warp import warp_image

_RADIUS, _DILATION = 1, 1  # of a registration's descriptors, in voxels of the level
_BEYOND_VOX = 3  # a descriptor is sampled up to 1 voxel beyond the faces and reaches 2 further


@tensor_arguments()
def mind_ssc(
    fixed: Tensor,
    moved: Tensor,
    mask: Tensor | None = None,
    *,
    radius: int = 1,
    dilation: int = 2,
) -> Tensor:
    """Mean squared difference of the two images' `mind_descriptor`, from 0 to 1.

    The loss ignores contrast, including its sign, wherever one image is locally a linear function
    of the other. Each voxel is weighted by `mind_weight`, so voxels of weight 0 have no influence.

    Args:
        fixed: ``(B, C, *shape)``.
        moved: The same shape.
        mask: Weights of voxels, ``(B or 1, 1, *shape)``.
        radius: Half the edge of a patch, in voxels.
        dilation: Distance of the neighbours from the voxel, in voxels.

    Returns:
        A scalar, differentiable in both images.
    """
    weight = None if mask is None else mask.to(moved)
    gap = mind_descriptor(moved, weight, radius=radius, dilation=dilation) - mind_descriptor(
        fixed, weight, radius=radius, dilation=dilation
    )
    known = None if weight is None else mind_weight(weight, radius=radius, dilation=dilation)
    return masked_mean(gap**2, known)


@tensor_arguments()
def mind_descriptor(
    image: Tensor,
    mask: Tensor | None = None,
    *,
    radius: int = 1,
    dilation: int = 2,
    floor: float = 1e-3,
) -> Tensor:
    """MIND-SSC: similarity of the patches around each voxel to one another, 0 to 1 (most similar).

    Heinrich et al. 2013, doi:10.1007/978-3-642-40811-3_24: ``exp(-(D - min D) / mean D)`` for the
    mean squared differences D of the patches around two neighbours that are not opposite; 12 such
    pairs in 3D, 4 in 2D. The image is extended beyond its faces by its outer voxels.

    Args:
        image: ``(B, C, *shape)``.
        mask: Weights of voxels, ``(B or 1, 1, *shape)``, for the image's variance.
        radius: Half the edge of a patch, in voxels.
        dilation: Distance of the neighbours from the voxel, in voxels.
        floor: Noise level of the mean D, as a fraction of the image's variance.

    Returns:
        ``(B, C * pairs, *shape)``, differentiable in the image.
    """
    noise = floor * (2 * radius + 1) ** (image.ndim - 2) * _variances(image, mask)
    noise += torch.finfo(image.dtype).tiny ** 0.5
    exponents = kernels.self_similarity(image, noise.expand(image.shape[:2]), radius, dilation)
    return exponents.exp_().flatten(1, 2)


def _variances(image: Tensor, mask: Tensor | None) -> Tensor:
    """Variance of each image of a batch within the mask, ``(B, 1)``."""
    masks = [None] * len(image) if mask is None else mask.expand(len(image), *mask.shape[1:])
    each = [
        variance(one[None], None if own is None else own[None])
        for one, own in zip(image, masks, strict=True)
    ]
    return image.new_tensor(each)[:, None]


def mind_channels(spatial_dims: int) -> int:
    """Number of channels of `mind_descriptor` for each channel of an image: 4 in 2D, 12 in 3D."""
    return 2 * spatial_dims * (spatial_dims - 1)


@tensor_arguments()
def mind_weight(mask: Tensor, *, radius: int = 1, dilation: int = 2) -> Tensor:
    """The lowest weight of all voxels within the grid that a voxel's descriptor depends on.

    Args:
        mask: Weights of voxels, ``(B or 1, 1, *shape)``.
        radius: Half the edge of a patch, in voxels.
        dilation: Distance of the neighbours from the voxel, in voxels.

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


@final
class SelfSimilarity(ImageMetric):
    """Mean squared difference of MIND-SSC descriptors."""

    name = "mind"
    contrast = "any"
    needs_many_voxels = True
    loss_arrays = 60  # a descriptor has 12 channels
    depends_on_axes = True
    stage_settings = EDGE_STAGE_SETTINGS

    def loss(
        self, fixed: Tensor, moved: Tensor, weight: Tensor | None, context: LossContext
    ) -> Tensor:
        return mse(fixed, moved, weight)

    def prepared(self, image: PreparedImage) -> PreparedImage:
        """The image's descriptors, computed once."""

        def described() -> PreparedImage:
            mask = None if image.mask is None else _weight(image.mask)
            return _described(image, image.image, image.mask, grid=image.grid, mask=mask)

        return image.cached(SelfSimilarity, described)

    def prepared_through(
        self, image: PreparedImage, transform: Transform, grid: Grid
    ) -> PreparedImage:
        """Descriptors of the warped image.

        A descriptor depends on directions and distances, so two images' descriptors can be compared
        only where both were computed along the same axes.
        """
        step_mm = _BEYOND_VOX * max(grid.spacing_mm)
        sides = [math.ceil(step_mm / s) for s in image.grid.spacing_mm for _ in range(2)][::-1]
        wider = F.pad(image.image, sides, mode="replicate"), image.grid.padded(step_mm)
        known = torch.ones_like(image.image[:, :1])
        if image.mask is not None:
            known = _weight(image.mask)
        warped = warp_image(*wider, transform, grid)
        covered = warp_image(known, image.grid, transform, grid)
        return _described(image, warped, covered, grid=grid, mask=covered)


def _weight(mask: Tensor) -> Tensor:
    return mind_weight(mask, radius=_RADIUS, dilation=_DILATION)


def _descriptor(image: Tensor, mask: Tensor | None) -> Tensor:
    return mind_descriptor(image, mask, radius=_RADIUS, dilation=_DILATION)


def _described(
    like: PreparedImage, values: Tensor, seen: Tensor | None, **changes: Any
) -> PreparedImage:
    """Descriptors of values with the channel groups of an image; label channels stay as they are.

    Each group is scaled by its own variance.
    """
    return like.map_groups(values, lambda group: _descriptor(group, seen), **changes)
