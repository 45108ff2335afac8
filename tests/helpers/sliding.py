"""A pair with a known displacement that jumps at a border, as where organs slide along a wall."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import DisplacementField
from stn3d.warp import warp_image

SPACING_MM = 2.0
_SHAPE = 90, 75
_DEPTH = 16
_MARGIN_MM = 8.0  # points are not closer to the border or to a face


@dataclass(frozen=True, eq=False)
class SlidingPair:
    """A textured image whose middle has moved along the last axis while the rest stays.

    Args:
        pair: The images.
        truth: Fixed points to moving points.
        inside: ``(N, d)`` points in the part that moves, away from its border.
        outside: Points in the part that stays.
    """

    pair: Pair
    truth: DisplacementField
    inside: Tensor
    outside: Tensor

    def volume_grid(self, depth: int) -> Grid:
        """The grid with an axis of isotropic voxels before the others."""
        return Grid.of_spacing((depth, *self.pair.fixed.grid.shape), SPACING_MM)


def sliding_pair(ndim: int, shift_mm: float) -> SlidingPair:
    """A pair in 2D or 3D.

    Args:
        ndim: 2 or 3.
        shift_mm: Displacement of the middle third along the last axis.
    """
    shape = _SHAPE if ndim == 2 else (_DEPTH, *_SHAPE)
    grid = Grid.of_spacing(shape, SPACING_MM)
    noise = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(ndim))
    fine, coarse = (kernels.gaussian_smooth(noise.clone(), [s] * ndim) for s in (1.5, 4.0))
    moving = (fine / fine.std() + coarse / coarse.std()) / 8 + 0.5
    across = grid.points_mm()[..., -2]
    low, high = (k / 3 * _SHAPE[0] * SPACING_MM for k in (1, 2))
    moves = ((across >= low) & (across < high)).float()
    u = torch.zeros(1, ndim, *shape)
    u[0, -1] = shift_mm * moves
    truth = DisplacementField(u, grid)
    fixed = warp_image(moving, grid, truth, grid)
    pair = Pair(PreparedImage(fixed, grid), PreparedImage(moving, grid))
    points = grid.points_mm().reshape(-1, ndim)[:: 7 if ndim == 2 else 97]
    from_border = torch.minimum((points[:, -2] - low).abs(), (points[:, -2] - high).abs())
    sizes = torch.tensor(shape) * SPACING_MM
    along = points[:, -1] + shift_mm
    kept = (from_border > _MARGIN_MM) & (along < sizes[-1] - _MARGIN_MM)
    kept &= (points > _MARGIN_MM).all(dim=1) & (points < sizes - _MARGIN_MM).all(dim=1)
    within = (points[:, -2] > low) & (points[:, -2] < high)
    return SlidingPair(pair, truth, points[kept & within], points[kept & ~within])
