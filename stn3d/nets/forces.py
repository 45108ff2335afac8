"""Demons forces: voxelwise displacement updates that increase the similarity of two images.

At most half a voxel long, without parameters and without gradient. A network predicts a gain for
each voxel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d import kernels

_NOISE_VARIANCE = 1e-4  # of intensities that range from 0 to about 1
_RADIUS_VOX = 2


@torch.no_grad()
def correlation_force(fixed: Tensor, moved: Tensor) -> Tensor:
    """Update along the local correlation coefficient, for any linear intensity relationship.

    Lorenzi et al. 2013, LCC-Demons (doi:10.1016/j.neuroimage.2013.04.114): a line is fitted from
    the fixed to the moved intensities in a window of 5 voxels along each axis. The update is the
    demons' (Thirion 1998, doi:10.1016/S1361-8415(98)80022-4) towards the intensity predicted by the
    line, weighted by the squared correlation in the window.

    Args:
        fixed: ``(B, C, *shape)``, intensities from 0 to about 1.
        moved: Warped moving image, same shape.

    Returns:
        ``(B, d, *shape)`` displacement update in voxels.
    """
    radii = [min(_RADIUS_VOX, n - 1) for n in fixed.shape[2:]]
    count = kernels.box_sum(torch.ones_like(fixed[:1, :1]), radii)
    products = torch.cat([fixed, moved, fixed * fixed, moved * moved, fixed * moved], dim=1)
    means = kernels.box_sum(products, radii).div_(count).chunk(5, dim=1)
    mean_fixed, mean_moved, variance_fixed, variance_moved, covariance = means
    # In place: allocating new memory would take as long as the sums.
    variance_fixed.addcmul_(mean_fixed, mean_fixed, value=-1).add_(_NOISE_VARIANCE)
    variance_moved.addcmul_(mean_moved, mean_moved, value=-1).add_(_NOISE_VARIANCE)
    covariance.addcmul_(mean_fixed, mean_moved, value=-1)
    slope = covariance / variance_fixed
    residual = (fixed - mean_fixed).mul_(slope).add_(mean_moved).sub_(moved)
    squared_correlation = slope.mul_(covariance).div_(variance_moved)
    gradient = torch.stack([_gradient(moved, axis) for axis in range(2, moved.ndim)], dim=1)
    norm = residual.square().sum(dim=1).add_(_NOISE_VARIANCE)
    for along in gradient.unbind(dim=1):
        norm += along.square().sum(dim=1)
    weight = squared_correlation.mul_(residual) / norm[:, None]
    return gradient.mul_(weight[:, None]).sum(dim=2)


def _gradient(image: Tensor, axis: int) -> Tensor:
    """Central differences along an axis, 0 at its ends."""
    gradient = torch.zeros_like(image)
    n = image.shape[axis]
    if n > 2:
        inner = gradient.narrow(axis, 1, n - 2)
        torch.sub(image.narrow(axis, 2, n - 2), image.narrow(axis, 0, n - 2), out=inner).mul_(0.5)
    return gradient
