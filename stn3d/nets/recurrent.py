"""Recurrent spatial transformers: a sequence of transforms from one image.

Sønderby et al. 2015, Recurrent spatial transformer networks (arXiv:1509.05329).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stn3d.arguments import tensor_arguments
from stn3d.grid import Grid
from stn3d.nets.heads import ParameterHead, ParameterKind
from stn3d.nets.keypoints import SpatialSoftmax
from stn3d.nets.spatial_transformer import warp_tensor
from stn3d.transforms import Transform


@dataclass(frozen=True)
class Recurrence:
    """Settings that the recurrent localisation networks share.

    Args:
        steps: Number of transforms.
        hidden: Units of the recurrent unit's state.
        kind: Kind of transform.
        spatial_dims: 2 or 3.
    """

    steps: int
    hidden: int = 64
    kind: ParameterKind = "affine"
    spatial_dims: int = 2

    def head(self, features: int) -> ParameterHead:
        """A linear head for ``(B, features)``."""
        return ParameterHead(self.kind, self.spatial_dims, features, hidden=0, pool_size=0)


class RecurrentLocalisation(nn.Module):
    """Sequence of transforms from a recurrent unit that receives the same features at every step.

    Args:
        encoder: Maps images ``(B, C, *shape)`` to ``(B, features)``.
        features: Number of features.
        recurrence: Number of steps, state size and kind of transform.
    """

    def __init__(self, encoder: nn.Module, features: int, recurrence: Recurrence) -> None:
        super().__init__()
        self.encoder, self.steps = encoder, recurrence.steps
        self.unit = nn.GRU(features, recurrence.hidden, batch_first=True)
        self.head = recurrence.head(recurrence.hidden)

    @tensor_arguments()
    def forward(self, images: Tensor) -> list[Transform]:
        """The transform of each step, in voxels of the images' grid."""
        features = self.encoder(images)
        states, _ = self.unit(features[:, None].expand(-1, self.steps, -1).contiguous())
        grid = Grid.of_spacing(images.shape[2:])
        return [self.head([state], grid) for state in states.unbind(1)]


class RecurrentKeypointLocalisation(nn.Module):
    """Sequence of transforms from keypoints; the keypoints of each step condition the next.

    The state of the recurrent unit sets the position bias of the spatial softmax, and the head
    receives the keypoints.

    Args:
        encoder: Maps images ``(B, C, *shape)`` to ``(B, keypoints, *level shape)``.
        keypoints: Number of feature maps of the encoder.
        recurrence: Number of steps, state size and kind of transform.
    """

    def __init__(self, encoder: nn.Module, keypoints: int, recurrence: Recurrence) -> None:
        super().__init__()
        spatial_dims, hidden = recurrence.spatial_dims, recurrence.hidden
        self.encoder, self.steps = encoder, recurrence.steps
        self.softmax = SpatialSoftmax(keypoints, spatial_dims)
        self.initial_state = nn.Parameter(torch.randn(hidden))
        self.position_bias = nn.Linear(hidden, keypoints * spatial_dims)
        self.unit = nn.GRUCell(keypoints * spatial_dims, hidden)
        self.head = recurrence.head(keypoints * spatial_dims)

    @tensor_arguments()
    def forward(self, images: Tensor) -> list[Transform]:
        """The transform of each step, in voxels of the images' grid."""
        maps, grid = self.encoder(images), Grid.of_spacing(images.shape[2:])
        state, transforms = self.initial_state.expand(len(images), -1), []
        for _ in range(self.steps):
            bias = self.position_bias(state).unflatten(1, (-1, grid.ndim))
            keypoints = self.softmax(maps, bias)
            transforms.append(self.head([keypoints], grid))
            state = self.unit(keypoints, state)
        return transforms


class RecurrentTransformer(nn.Module):
    """Warps an image by each transform of a sequence.

    Args:
        localisation: Maps images to a list of transforms, such as `RecurrentLocalisation`.
        shape: Output shape of each step. Default: the shape of the image.
        crop_fraction: Fraction of the image's edge lengths, about its centre, that the output
            covers under the identity.
    """

    def __init__(
        self,
        localisation: nn.Module,
        shape: Sequence[int] | None = None,
        crop_fraction: float = 1.0,
    ) -> None:
        super().__init__()
        self.localisation, self.crop_fraction = localisation, crop_fraction
        self.shape = None if shape is None else tuple(shape)

    @tensor_arguments()
    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, *shape)`` -> ``(B, steps, C, *output shape)``."""
        transforms = self.localisation(image)
        warped = [warp_tensor(image, t, self.shape, self.crop_fraction) for t in transforms]
        return torch.stack(warped, dim=1)


class TimeDistributed(nn.Module):
    """Applies one network to every step: ``(B, steps, ...)`` -> ``(B, steps, ...)``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @tensor_arguments()
    def forward(self, steps: Tensor) -> Tensor:
        """The network's output for each step."""
        output: Tensor = self.network(steps.flatten(0, 1))
        return output.unflatten(0, steps.shape[:2])
