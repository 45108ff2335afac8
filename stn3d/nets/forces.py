"""Where each voxel would go by itself to make two images more alike.

Bounded by half a voxel, without parameters and without gradient; a network says how far to follow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d import kernels

_FLOOR = 1e-4  # squared intensities that count as noise, images being from 0 to about 1
_RADIUS_VOX = 2


@torch.no_grad()
def correlation_force(fixed: Tensor, moved: Tensor) -> Tensor:
    """Steps by local correlation, whatever the images' local contrast to one another.

    Lorenzi et al. 2013, LCC-Demons (doi:10.1016/j.neuroimage.2013.04.114): in a window of 5 voxels
    an edge a line is fitted from the fixed image's intensities to the moved image's. The step is
    the demons' (Thirion 1998, doi:10.1016/S1361-8415(98)80022-4) towards what the line expects,
    times the square of the correlation in the window.

    Args:
        fixed: ``(B, C, *shape)``, intensities from 0 to about 1.
        moved: the same of the moving image as moved so far.

    Returns:
        ``(B, d, *shape)`` in voxels: moving on by it makes the moved image more like the fixed.
    """
    radii = [min(_RADIUS_VOX, n - 1) for n in fixed.shape[2:]]
    count = kernels.box_sum(torch.ones_like(fixed[:1, :1]), radii)
    products = torch.cat([fixed, moved, fixed * fixed, moved * moved, fixed * moved], dim=1)
    means = kernels.box_sum(products, radii).div_(count).chunk(5, dim=1)
    mean_fixed, mean_moved, variance_fixed, variance_moved, covariance = means
    # In place: new memory would take as long as the sums.
    variance_fixed.addcmul_(mean_fixed, mean_fixed, value=-1).add_(_FLOOR)
    variance_moved.addcmul_(mean_moved, mean_moved, value=-1).add_(_FLOOR)
    covariance.addcmul_(mean_fixed, mean_moved, value=-1)
    slope = covariance / variance_fixed
    apart = (fixed - mean_fixed).mul_(slope).add_(mean_moved).sub_(moved)
    trust = slope.mul_(covariance).div_(variance_moved)
    slopes = torch.stack([_slope(moved, axis) for axis in range(2, moved.ndim)], dim=1)
    size = apart.square().sum(dim=1).add_(_FLOOR)
    for along in slopes.unbind(dim=1):
        size += along.square().sum(dim=1)
    return slopes.mul_((trust.mul_(apart) / size[:, None])[:, None]).sum(dim=2)


def _slope(image: Tensor, axis: int) -> Tensor:
    """Central differences along an axis, 0 at its ends."""
    slope = torch.zeros_like(image)
    n = image.shape[axis]
    if n > 2:
        inner = slope.narrow(axis, 1, n - 2)
        torch.sub(image.narrow(axis, 2, n - 2), image.narrow(axis, 0, n - 2), out=inner).mul_(0.5)
    return slope
