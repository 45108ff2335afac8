"""What a deformation does to the volume of what the images show."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.grid import apply_matrix
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.sampler import sample
from stn3d.transforms import Affine, Transform, chain, split_linear
from stn3d.warp import jacobian_determinant

_BACKGROUND = 0.05  # of the intensity range


@torch.no_grad()
def content_volume_change(pair: Pair, transform: Transform) -> float:
    """The factor, 1 or more, by which a deformation enlarges or shrinks what an image shows.

    The linear part is excluded. The content of the fixed image changes its volume by the mean of
    the Jacobian determinants over it; that of the moving image by how much more or less of the
    fixed grid it covers than without the deformation. The larger change is returned.

    Args:
        pair: The images on a coarse level.
        transform: Fixed points to moving points.
    """
    field, linear = split_linear(transform)
    if field is None:
        return 1.0
    grid = pair.fixed.grid
    linear = linear or Affine.identity(grid.ndim, grid.centre_mm)
    content = bright(pair.fixed)
    ratios = []
    if bool(content.any()):
        ratios.append(float(jacobian_determinant(field, grid)[content].mean()))
    before, after = (_covered(pair, one) for one in (linear, chain(field, linear)))
    if before and after:
        ratios.append(after / before)
    return max([max(r, 1 / max(r, 1e-3)) for r in ratios], default=1.0)


def _covered(pair: Pair, transform: Transform) -> float:
    """Voxels of the fixed grid at which the moving image's content lies."""
    grid = pair.fixed.grid
    index = apply_matrix(pair.moving.grid.index_from_world, transform(grid.points_mm()))
    content = bright(pair.moving)[None, None].float()
    return float(sample(content, index.flatten(0, -2)[None].float()).sum())


def bright(image: PreparedImage) -> Tensor:
    """``grid.shape`` bool: voxels above the background, in any channel and within the mask."""
    content = image.image[0].amax(dim=0) > _BACKGROUND
    return content.cpu() if image.mask is None else (content & (image.mask[0, 0] > 0.5)).cpu()
