"""Localisation networks: a pair of images -> the parameters of a transform; identity at birth.

Convention: transforms here map fixed to moving points in voxels of the pair's grid, so that no
spacing is asked for; `stn3d.nets.stages` brings them to the world.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.nets.blocks import Encoder, convolution, dense_memory, silent_convolution
from stn3d.transforms import LINEAR_KINDS, LinearKind, Transform, VelocityField

Head = Literal["rigid", "similarity", "affine", "regional", "velocity"]


class LinearHead(nn.Module):
    """Rigid, similarity or affine parameters from the coarsest features.

    The last layer's weights are 0 at birth (Jaderberg et al. 2015, section 3.1), and a unit of any
    parameter moves the image's border by about a tenth of the image.

    Args:
        kind: of the transform.
        spatial_dims: 2 or 3.
        channels: of the features.
        hidden: of the layer before the parameters.
        pooled: voxels along each axis that the features are averaged to, so that any shape fits.
    """

    def __init__(
        self, kind: LinearKind, spatial_dims: int, channels: int, hidden: int = 64, pooled: int = 3
    ) -> None:
        super().__init__()
        self.kind, self.pooled = kind, pooled
        count = LINEAR_KINDS[kind].num_parameters(spatial_dims)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * pooled**spatial_dims, hidden),
            nn.ReLU(),
            nn.Linear(hidden, count),
        )
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Sequence[Tensor], grid: Grid) -> Transform:
        """The transform of each pair of a batch, about the grid's centre."""
        pool = F.adaptive_avg_pool2d if grid.ndim == 2 else F.adaptive_avg_pool3d
        said = self.layers(pool(features[-1].float(), self.pooled))
        make, d = LINEAR_KINDS[self.kind], grid.ndim
        unit = torch.full((said.shape[1],), 0.2).to(said)
        unit[-d:] = 0.1 * torch.tensor(grid.shape).to(said)
        return make(make.identity_parameters(d).to(said) + unit * said, grid.centre_mm.to(said))


class VelocityHead(nn.Module):
    """A velocity from the features, on a grid of their own or of a few control points.

    Args:
        spatial_dims: 2 or 3.
        channels: of the features, from the finest level on.
        control_points: along each axis; None for the features' own grid, decoded to the finest.
    """

    def __init__(
        self, spatial_dims: int, channels: Sequence[int], control_points: int | None
    ) -> None:
        super().__init__()
        self.control_points = control_points
        used = [channels[-1]] if control_points else list(channels)
        self.decoder = nn.ModuleList(
            convolution(spatial_dims, coarse + fine, fine)
            for fine, coarse in itertools.pairwise(used)
        )
        self.velocity = silent_convolution(spatial_dims, used[0], spatial_dims)

    def forward(self, features: Sequence[Tensor], grid: Grid) -> Transform:
        """The exponential of each pair's velocity, which covers the grid's domain."""
        x = features[-1]
        if self.control_points:
            pool = F.adaptive_avg_pool2d if grid.ndim == 2 else F.adaptive_avg_pool3d
            x = pool(x.float(), self.control_points)
        for level, skipped in zip(
            reversed(self.decoder), features[-2::-1] if len(self.decoder) else [], strict=True
        ):
            x = level(torch.cat([_resized(x, skipped.shape[2:]), skipped], dim=1))
        velocity = self.velocity(x).float()
        return VelocityField(velocity, grid.with_shape(velocity.shape[2:]))


def _resized(image: Tensor, shape: Sequence[int]) -> Tensor:
    mode = "bilinear" if image.ndim == 4 else "trilinear"
    return F.interpolate(image, size=tuple(shape), mode=mode, align_corners=False)


class Localisation(nn.Module):
    """An encoder of both images and a head: a pair -> a transform.

    Args:
        head: ``rigid`` (6 parameters in 3D), ``similarity`` (7), ``affine`` (12), ``regional``
            (control points) or ``velocity`` (dense).
        spatial_dims: 2 or 3.
        in_channels: of each image.
        channels: of the encoder's levels, from the finest on.
        control_points: along each axis, of a regional head.
        dropout: share of the features that training leaves out.

    Raises:
        InputError: the head is unknown.
    """

    def __init__(
        self,
        head: Head,
        spatial_dims: int = 3,
        in_channels: int = 1,
        channels: Sequence[int] = (8, 16, 32, 64),
        control_points: int = 6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if head not in get_args(Head):
            raise InputError(f"the head {head!r} is unknown; one of {', '.join(get_args(Head))}.")
        self.encoder = Encoder(spatial_dims, 2 * in_channels, channels, dropout)
        self.head: nn.Module
        if head == "regional":
            self.head = VelocityHead(spatial_dims, channels, control_points)
        elif head == "velocity":
            self.head = VelocityHead(spatial_dims, channels, None)
        else:
            self.head = LinearHead(head, spatial_dims, channels[-1])

    def forward(self, pair: Tensor) -> Transform:
        """``(B, 2 C, *shape)`` -> the transform of each pair, in voxels of its grid."""
        grid = Grid.of_spacing(pair.shape[2:])
        transform: Transform = self.head(self.encoder(dense_memory(pair)), grid)
        return transform
