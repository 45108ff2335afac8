"""A spatial transformer that looks several times: one transform after another from one image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stn3d.grid import Grid
from stn3d.nets.heads import ParameterHead, ParameterKind
from stn3d.nets.spatial_transformer import moved
from stn3d.transforms import Transform


class RecurrentLocalisation(nn.Module):
    """Finds a sequence of transforms, each knowing those before it, such as one for each digit.

    Sønderby et al. 2015, Recurrent spatial transformer networks (arXiv:1509.05329): an encoder's
    features are fed to a gated recurrent unit at every step; its states give the transforms.

    Args:
        encoder: of images ``(B, C, *shape)``; gives ``(B, features)``.
        features: numbers that the encoder gives.
        steps: how often it looks.
        hidden: numbers in the recurrent unit's state.
        kind: of the transforms.
        spatial_dims: 2 or 3.
    """

    def __init__(
        self,
        encoder: nn.Module,
        features: int,
        steps: int,
        hidden: int = 64,
        kind: ParameterKind = "affine",
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        self.encoder, self.steps = encoder, steps
        self.unit = nn.GRU(features, hidden, batch_first=True)
        self.head = ParameterHead(kind, spatial_dims, hidden, hidden=0, pooled=0)

    def forward(self, images: Tensor) -> list[Transform]:
        """The transform of each step, in voxels of the images' grid."""
        features = self.encoder(images)
        states, _ = self.unit(features[:, None].expand(-1, self.steps, -1).contiguous())
        grid = Grid.of_spacing(images.shape[2:])
        return [self.head([state], grid) for state in states.unbind(1)]


class RecurrentTransformer(nn.Module):
    """Shows what is seen through each of a sequence of transforms.

    Args:
        localisation: images -> a list of transforms, such as `RecurrentLocalisation`.
        shape: of what is seen at each step; the image's own by default.
        share: of the image's edges, about its middle, that the identity shows.
    """

    def __init__(
        self,
        localisation: nn.Module,
        shape: Sequence[int] | None = None,
        share: float = 1.0,
    ) -> None:
        super().__init__()
        self.localisation, self.share = localisation, share
        self.shape = None if shape is None else tuple(shape)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, *shape)`` -> ``(B, steps, C, *shape)``."""
        found = self.localisation(image)
        return torch.stack([moved(image, one, self.shape, self.share) for one in found], dim=1)


class EachStep(nn.Module):
    """The same network for every step: ``(B, steps, ...)`` -> ``(B, steps, ...)``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, steps: Tensor) -> Tensor:
        """The network's answer for each step."""
        answer: Tensor = self.network(steps.flatten(0, 1))
        return answer.unflatten(0, steps.shape[:2])
