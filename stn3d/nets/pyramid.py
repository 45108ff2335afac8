"""A cascade over a pyramid of features: move, compare nearby, predict what is left, go finer.

One encoder reads both images. From the coarsest level on, the moving image's features are moved by
the transform so far and correlated with the fixed image's in a small neighbourhood; a head predicts
the velocity that is left, and its exponential goes before the transform so far (Sun et al. 2018,
PWC-Net, arXiv:1709.02371; Hu et al. 2022, Recursive decomposition network, doi:10.1109/TMI.2022.
3161653). With ``symmetric`` the velocity is the difference of the head's answers for both orders of
the images, so that every residual's inverse is what the swapped images would have had
(Greer et al. 2023, Inverse consistency by construction, arXiv:2305.00087).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stn3d import kernels
from stn3d.losses.modality import mind_channels, mind_descriptor
from stn3d.nets.blocks import (
    Encoder,
    convolution,
    dense_memory,
    doubled,
    full_size,
    options_of,
    padded_to_multiple,
    silent_convolution,
)
from stn3d.sampler import sample_displaced


class Residual(nn.Module):
    """Predicts on one level the velocity that is left, in voxels of the level."""

    def __init__(
        self,
        spatial_dims: int,
        features: int,
        hidden: int,
        radius: int,
        dropout: float,
        bias: bool,
    ) -> None:
        super().__init__()
        self.radius = radius
        inputs = (2 * radius + 1) ** spatial_dims + 2 * features
        self.layers = nn.Sequential(
            convolution(spatial_dims, inputs, hidden, 1, dropout),
            convolution(spatial_dims, hidden, hidden, 1, dropout),
            silent_convolution(spatial_dims, hidden, spatial_dims, bias),
        )

    def forward(self, fixed: Tensor, moved: Tensor) -> Tensor:
        """``(B, C, *shape)`` features of both images -> ``(B, d, *shape)``."""
        near = kernels.local_products(_unit(fixed), _unit(moved), self.radius)
        velocity: Tensor = self.layers(dense_memory(torch.cat([near, fixed, moved], dim=1)))
        return velocity.float()


def _unit(features: Tensor) -> Tensor:
    """Features of root mean square 1 over the channels."""
    return features * (features.square().mean(dim=1, keepdim=True) + 1e-6).rsqrt()


class PyramidCascade(nn.Module):
    """A dense displacement from a pair, coarse to fine; the identity at birth.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of each image.
        channels: of the features, from the finest level on; one level each.
        hidden: channels of the heads, from the finest level on; a level of 0 has no head, and
            predicts nothing.
        radii: how far features are compared, in voxels of the level, from the finest level on.
        repeats: how often a level predicts, with the same weights, from the finest level on.
        squarings: of each residual's exponential.
        smoothings: how often each velocity is averaged over 3 voxels along each axis.
        symmetric: residuals that are inverted when the images are swapped.
        descriptors: the encoder also sees the images' MIND-SSC descriptors, which hardly know what
            kind of image they are of: training is far faster.
        dropout: share of the features that training leaves out.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        channels: Sequence[int] = (8, 24, 48, 64),
        hidden: Sequence[int] = (16, 32, 64, 64),
        radii: Sequence[int] = (1, 1, 1, 1),
        repeats: Sequence[int] = (1, 1, 2, 2),
        squarings: int = 4,
        smoothings: int = 2,
        symmetric: bool = True,
        descriptors: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = options_of(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=channels,
            hidden=hidden,
            radii=radii,
            repeats=repeats,
            squarings=squarings,
            smoothings=smoothings,
            symmetric=symmetric,
            descriptors=descriptors,
            dropout=dropout,
        )
        self.repeats, self.squarings = tuple(repeats), squarings
        self.smoothings, self.symmetric = smoothings, symmetric
        self.descriptors = descriptors
        seen = in_channels * (1 + (mind_channels(spatial_dims) if descriptors else 0))
        self.encoder = Encoder(spatial_dims, seen, channels, dropout)
        self.residuals = nn.ModuleDict(
            {
                # of a difference of answers no bias is left
                str(level): Residual(spatial_dims, c, h, r, dropout, bias=not symmetric)
                for level, (c, h, r) in enumerate(zip(channels, hidden, radii, strict=True))
                if h > 0
            }
        )

    def forward(self, pair: Tensor) -> Tensor:
        """Displacements of pairs.

        Args:
            pair: ``(B, 2 C, *shape)``, the fixed image's channels before the moving image's.

        Returns:
            ``(B, d, *shape)`` in voxels: ``moved(x) = moving(x + u(x))``.
        """
        return full_size(self.stages(pair)[-1], pair.shape[2:])

    def stages(self, pair: Tensor) -> tuple[Tensor, ...]:
        """The displacement after each level that has a head, coarse to fine, ``(B, d, *level
        shape)`` in voxels of the level; sizes are those of the pair, padded at the end to a
        multiple of the coarsest."""
        pair = padded_to_multiple(pair, 2 ** (len(self.repeats) - 1))
        images = torch.cat(pair.chunk(2, dim=1))
        if self.descriptors:
            with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
                images = torch.cat([images, mind_descriptor(images.float())], dim=1)
        features = self.encoder(dense_memory(images))
        found: list[Tensor] = []
        for level in sorted(map(int, self.residuals), reverse=True):
            fixed, moving = features[level].float().contiguous().chunk(2)
            so_far = fixed.new_zeros(len(fixed), fixed.ndim - 2, *fixed.shape[2:])
            if found:
                so_far = doubled(found[-1])
            for _ in range(self.repeats[level]):
                so_far = self._refined(level, fixed, moving, so_far)
            found.append(so_far)
        return tuple(found)

    def _refined(self, level: int, fixed: Tensor, moving: Tensor, so_far: Tensor) -> Tensor:
        """The displacement so far with one more residual before it."""
        moved, residual = sample_displaced(moving, so_far), self.residuals[str(level)]
        if self.symmetric:  # both orders as one batch
            both = residual(torch.cat([fixed, moved]), torch.cat([moved, fixed]))
            there, back = both.chunk(2)
            velocity = 0.5 * (there - back)
        else:
            velocity = residual(fixed, moved)
        for _ in range(self.smoothings):
            velocity = kernels.box_sum(velocity, [1] * (velocity.ndim - 2)) / 3 ** (
                velocity.ndim - 2
            )
        return kernels.compose(kernels.exponential(velocity, self.squarings), so_far)
