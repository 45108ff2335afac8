"""The spatial transformer: localisation, transform and sampler as one module.

Jaderberg et al. 2015, Spatial transformer networks (arXiv:1506.02025), for a pair of images in two
or three dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn3d.grid import Grid
from stn3d.nets.blocks import options_of
from stn3d.nets.localisation import Head, Localisation
from stn3d.sampler import sample
from stn3d.transforms import Affine, Transform, chain


class SpatialTransformer(nn.Module):
    """Finds the transform of a pair and moves the moving image by it; the identity at birth.

    Args:
        head: what kind of transform, see `Localisation`.
        factor: the localisation sees the pair averaged over blocks of so many voxels an edge.
        spatial_dims: 2 or 3.
        in_channels: of each image.
        channels: of the encoder's levels, from the finest on.
        control_points: along each axis, of a regional head.
        dropout: share of the features that training leaves out.
    """

    def __init__(
        self,
        head: Head = "affine",
        factor: int = 1,
        spatial_dims: int = 3,
        in_channels: int = 1,
        channels: Sequence[int] = (8, 16, 32, 64),
        control_points: int = 6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.factor = factor
        shared = (spatial_dims, in_channels, tuple(channels), control_points, dropout)
        self.options: dict[str, Any] = options_of(
            head=head,
            factor=factor,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=channels,
            control_points=control_points,
            dropout=dropout,
        )
        self.localisation = Localisation(head, *shared)

    def transform(self, pair: Tensor) -> Transform:
        """Fixed to moving points in voxels of the pair's grid, ``(B, 2 C, *shape)``."""
        if self.factor == 1:
            found: Transform = self.localisation(pair)
            return found
        pool = F.avg_pool2d if pair.ndim == 4 else F.avg_pool3d
        sizes = pair.shape[2:]
        sides = [side for n in reversed(sizes) for side in (0, -n % self.factor)]
        coarse = pool(F.pad(pair, sides), self.factor)
        # Block i holds voxels factor i up to factor (i + 1) - 1.
        grid = Grid.of_spacing(coarse.shape[2:], self.factor)
        shift = (self.factor - 1) / 2
        matrix = grid.world_from_index.clone()
        matrix[:-1, -1] = shift
        to_voxels = Affine.from_matrix(matrix)
        return chain(to_voxels.inverse(), self.localisation(coarse), to_voxels)

    def forward(self, pair: Tensor) -> Tensor:
        """The moving image of each pair, moved onto the fixed one, ``(B, C, *shape)``."""
        moving = pair.chunk(2, dim=1)[1]
        return moved(moving, self.transform(pair))


def moved(moving: Tensor, transform: Transform) -> Tensor:
    """Images ``(B, C, *shape)`` read at a transform of their own grid's voxels."""
    return sample(moving, transform(voxels(moving)))


def voxels(images: Tensor) -> Tensor:
    """``(B, *shape, d)`` index coordinates of the voxels of ``(B, C, *shape)``."""
    grid = Grid.of_spacing(images.shape[2:])
    points = grid.points_index(device=images.device, dtype=torch.float32)
    return points.expand(len(images), *points.shape)
