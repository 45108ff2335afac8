"""The linear part of a result, and how much its deformation changes volumes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.reductions import voxel_mean, voxel_sum
from stn3d.transforms import Linear, Transform, split_linear
from stn3d.transforms.fit import fit_linear
from stn3d.warp import jacobian_determinant, warp_image

BACKGROUND = 0.05
"""Fraction of the intensity range up to which a voxel is background."""

MIN_JACOBIAN = 1e-3
"""Least Jacobian determinant and volume ratio of which a logarithm is taken."""


def content_volume_ratio(pair: Pair, transform: Transform) -> float:
    """How a deformation changes the volume of everything that an image shows, beside the linear
    part.

    It is measured twice, as the volume of the moving image's content on the fixed grid, and as one
    over the mean Jacobian determinant in the fixed image's content. Brains change their shape far
    more than their volume; a ratio far from 1 shows that the content was matched to something else,
    such as the cortex of a skull-stripped brain to the scalp.

    Args:
        pair: the images, at a coarse level.
        transform: fixed points to moving points.

    Returns:
        The one of the two ratios that is farther from 1; 1 without a deformation.
    """
    field, _ = split_linear(transform)
    if field is None:
        return 1.0
    linear, fixed, moving = linear_part(transform, pair.fixed), pair.fixed, pair.moving
    shown = _foreground(moving)[None, None].to(moving.image)
    after, before = (
        float(voxel_sum(warp_image(shown, moving.grid, way, fixed.grid).double()))
        for way in (transform, linear)
    )
    determinants = jacobian_determinant(transform, fixed.grid)[_foreground(fixed)].double()
    shrinkage = float(voxel_mean(determinants) / torch.linalg.det(linear.matrix).abs())
    ratios = [after / before if before else 1.0, 1 / max(shrinkage, MIN_JACOBIAN)]
    return max(ratios, key=lambda ratio: abs(math.log(max(ratio, MIN_JACOBIAN))))


def _foreground(image: PreparedImage) -> Tensor:
    """``shape`` bool: voxels brighter than the background and not masked; all if there is none."""
    bright = image.image[0].amax(dim=0) > BACKGROUND
    if image.mask is not None:
        bright &= image.mask[0, 0] > 0.5
    return bright if bool(bright.any()) else torch.ones_like(bright)


def linear_part(transform: Transform, fixed: PreparedImage) -> Linear:
    """The linear transform that follows the fields; an affine fit if there is none.

    Args:
        transform: fixed points to moving points.
        fixed: image whose voxels the affine transform is fitted to.
    """
    _, linear = split_linear(transform)
    if linear is not None:
        return linear
    points = fixed.grid.points_mm().flatten(0, -2)
    return fit_linear("affine", points, transform(points))


def smaller_first(pair: Pair, transform: Transform) -> tuple[Pair, Linear]:
    """The pair with the image of the smaller field of view as the fixed one, and the linear part of
    the transform in that direction."""
    linear = linear_part(transform, pair.fixed)
    if math.prod(pair.moving.grid.size_mm) < math.prod(pair.fixed.grid.size_mm):
        inverse = linear.inverse()
        assert isinstance(inverse, Linear)
        return pair.swapped, inverse
    return pair, linear
