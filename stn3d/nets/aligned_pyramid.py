"""Feature pyramid whose levels are aligned by spatial transformers before they are fused."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stn3d.arguments import tensor_arguments
from stn3d.nets.blocks import Encoder, convolution, crop_to_shape, upsample
from stn3d.nets.heads import HeadKind
from stn3d.nets.localisation import PyramidLocalisation
from stn3d.nets.spatial_transformer import SpatialTransformer


class AlignedPyramid(nn.Module):
    """Top-down fusion of encoder levels; each level is aligned to the coarser one before addition.

    Feature pyramids (Lin et al. 2017, arXiv:1612.03144) add each level to the upsampled coarser
    level, although strided convolutions shift the features. A spatial transformer of both levels
    aligns the finer level first (Huang et al. 2021, Feature-aligned pyramid network,
    arXiv:2108.07058).

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the images.
        channels: Channels of the encoder's levels, finest first.
        out_channels: Channels of every fused level.
        head: Transform of the spatial transformers.
        shared: Use the same spatial transformer at all levels.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        channels: Sequence[int] = (8, 16, 32),
        out_channels: int = 16,
        head: HeadKind = "affine",
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

    @tensor_arguments()
    def forward(self, image: Tensor) -> list[Tensor]:
        """Fused features of each level.

        Args:
            image: ``(B, C, *shape)``.

        Returns:
            ``(B, out_channels, *level shape)`` of each level, finest first.
        """
        levels = [lateral(x) for lateral, x in zip(self.lateral, self.encoder(image), strict=True)]
        fused = [levels[-1]]
        steps = zip(self.transformers, self.fused, levels[:-1], strict=True)
        for transformer, fuse, level in reversed(list(steps)):
            above = crop_to_shape(upsample(fused[0]), level.shape[2:])
            aligned = transformer(level, torch.cat([above, level], dim=1))
            fused.insert(0, fuse(above + aligned))
        return fused
