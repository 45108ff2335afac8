"""A pyramid of features whose levels are aligned by spatial transformers before they are fused."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stn3d.nets.blocks import Encoder, convolution, cropped, magnified
from stn3d.nets.heads import Head
from stn3d.nets.localisation import PyramidLocalisation
from stn3d.nets.spatial_transformer import SpatialTransformer


class AlignedPyramid(nn.Module):
    """Top-down fusion of an encoder's levels; each is aligned to the coarser before it is added.

    Feature pyramids (Lin et al. 2017, arXiv:1612.03144) add each level to the enlarged coarser one,
    which striding has put elsewhere; a spatial transformer that looks at both aligns the finer one
    first (Huang et al. 2021, Feature-aligned pyramid network, arXiv:2108.07058).

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the images.
        channels: of the encoder's levels, from the finest on.
        out_channels: of all fused levels.
        head: of the transformers.
        shared: whether one transformer serves all levels.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        channels: Sequence[int] = (8, 16, 32),
        out_channels: int = 16,
        head: Head = "affine",
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(spatial_dims, in_channels, channels)
        self.lateral = nn.ModuleList(
            convolution(spatial_dims, count, out_channels) for count in channels
        )
        self.fused = nn.ModuleList(
            convolution(spatial_dims, out_channels, out_channels) for _ in channels[:-1]
        )

        def transformer() -> SpatialTransformer:
            channels = (out_channels, out_channels)
            return SpatialTransformer(
                PyramidLocalisation(head, spatial_dims, 2 * out_channels, channels)
            )

        one = transformer()
        self.transformers = nn.ModuleList(
            one if shared else transformer() for _ in range(len(channels) - 1)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, *shape)`` -> ``(B, out_channels, *level shape)`` a level, fine to coarse."""
        levels = [lateral(x) for lateral, x in zip(self.lateral, self.encoder(image), strict=True)]
        found = [levels[-1]]
        steps = zip(self.transformers, self.fused, levels[:-1], strict=True)
        for transformer, fuse, level in reversed(list(steps)):
            above = cropped(magnified(found[0]), level.shape[2:])
            aligned = transformer(level, torch.cat([above, level], dim=1))
            found.insert(0, fuse(above + aligned))
        return found
