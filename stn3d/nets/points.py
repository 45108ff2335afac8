"""Where feature maps are large, as numbers: localisations that point instead of describe.

An affine map that takes places known by heart to the places found is linear in the latter, so that
a head needs no layer between them and its parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stn3d.grid import Grid
from stn3d.nets.heads import ParameterHead, ParameterKind
from stn3d.nets.precision import exact
from stn3d.transforms import Transform


class SpatialSoftmax(nn.Module):
    """The mean place of each feature map under a softmax over space.

    Levine et al. 2016, End-to-end training of deep visuomotor policies (arXiv:1504.00702). Each map
    leans along each axis beside, by as much as is learned or told, so that it can prefer the first
    of several places to the others.

    Args:
        channels: of the features, one a point.
        spatial_dims: 2 or 3.
    """

    def __init__(self, channels: int, spatial_dims: int) -> None:
        super().__init__()
        self.lean = nn.Parameter(torch.zeros(channels, spatial_dims))

    def forward(self, features: Tensor, lean: Tensor | None = None) -> Tensor:
        """Where each map is large; -1 and 1 are the faces of the grid along an axis.

        Args:
            features: ``(B, C, *shape)``.
            lean: ``(B, C, d)``, added to what is learned.

        Returns:
            ``(B, C d)``.
        """
        axes = [(2 * torch.arange(n) + 1) / n - 1 for n in features.shape[2:]]
        places = torch.stack(torch.meshgrid(axes, indexing="ij"), dim=-1).flatten(0, -2)
        with exact(features.device):
            places = places.to(self.lean)
            leans = self.lean if lean is None else self.lean + lean.to(self.lean)
            share = (features.flatten(2).to(self.lean) + leans @ places.mT).softmax(dim=-1)
            return (share @ places).flatten(1)


class RecurrentPoints(nn.Module):
    """Finds a sequence of transforms by pointing; where it pointed tells where to point next.

    As `RecurrentLocalisation` (Sønderby et al. 2015, arXiv:1509.05329), but the recurrent unit's
    state says which way each map of features leans, and the head sees the points.

    Args:
        encoder: of images ``(B, C, *shape)``; gives maps ``(B, points, *level shape)``.
        points: maps that the encoder gives.
        steps: how often it points.
        hidden: numbers in the recurrent unit's state.
        kind: of the transforms.
        spatial_dims: 2 or 3.
    """

    def __init__(
        self,
        encoder: nn.Module,
        points: int,
        steps: int,
        hidden: int = 64,
        kind: ParameterKind = "affine",
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.encoder, self.steps = encoder, steps
        self.softmax = SpatialSoftmax(points, spatial_dims)
        self.start = nn.Parameter(torch.randn(hidden))
        self.lean = nn.Linear(hidden, points * spatial_dims)
        self.unit = nn.GRUCell(points * spatial_dims, hidden)
        self.head = ParameterHead(kind, spatial_dims, points * spatial_dims, hidden=0, pooled=0)

    def forward(self, images: Tensor) -> list[Transform]:
        """The transform of each step, in voxels of the images' grid."""
        maps, grid = self.encoder(images), Grid.of_spacing(images.shape[2:])
        state, found = self.start.expand(len(images), -1), []
        for _ in range(self.steps):
            lean = self.lean(state).unflatten(1, (-1, grid.ndim))
            points = self.softmax(maps, lean)
            found.append(self.head([points], grid))
            state = self.unit(points, state)
        return found
