"""Network that regresses the coordinates of each voxel in a common head space.

Gopinath et al. 2024, Registration by regression (arXiv:2404.16781): a network predicts for every
voxel its position in a common space; a linear transform is a least-squares fit to these positions.
`stn3d.nets.pose` fits it robustly and to both images, so no initial transform is needed and heads
may be rotated by any angle in the training range.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stn3d.arguments import tensor_arguments
from stn3d.nets.blocks import (
    Encoder,
    convolution,
    crop_to_shape,
    json_options,
    pad_to_multiple,
    to_channels_last,
    upsample,
    zero_initialised_convolution,
)


class CoordinateRegressor(nn.Module):
    """U-Net that maps an image to coordinates in a common space and a tissue logit for each voxel.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        channels: Feature channels of each level, finest first; the output is on the second level.
        dropout: Dropout probability of the features.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        channels: Sequence[int] = (8, 24, 64, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = json_options(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=channels,
            dropout=dropout,
        )
        self.encoder = Encoder(spatial_dims, in_channels, channels, dropout)
        coarsest = channels[-1]
        self.bottleneck = convolution(spatial_dims, coarsest, coarsest, 1, dropout)
        up = list(channels[1:])
        self.decoder = nn.ModuleList(
            nn.Sequential(
                convolution(spatial_dims, coarse + fine, fine, 1, dropout),
                convolution(spatial_dims, fine, fine, 1, dropout),
            )
            for fine, coarse in itertools.pairwise(up)
        )
        widths = [coarsest, *reversed(up[:-1])]
        self.heads = nn.ModuleList(
            zero_initialised_convolution(spatial_dims, width, spatial_dims + 1) for width in widths
        )

    @tensor_arguments()
    def forward(self, image: Tensor) -> Tensor:
        """Coordinate maps of images.

        Args:
            image: ``(B, C, *shape)``, intensities from 0 to 1.25.

        Returns:
            ``(B, d + 1, *half shape)``: coordinates in units of 100 mm, then the logit that the
            voxel is tissue. Output voxel i covers image voxels 2i and 2i + 1.
        """
        return crop_to_shape(self.stages(image)[-1], [-(-n // 2) for n in image.shape[2:]])

    @tensor_arguments()
    def stages(self, image: Tensor) -> tuple[Tensor, ...]:
        """The coordinate map of each level, coarse to fine.

        Each level adds a residual to the upsampled coarser map. Shapes are those of the image
        padded at the end to a multiple of the coarsest level.
        """
        multiple = 2 ** (len(self.encoder.levels) - 1)
        features = self.encoder(to_channels_last(pad_to_multiple(image, multiple)))
        x = self.bottleneck(features[-1])
        maps = [self.heads[0](x).float()]
        levels = zip(reversed(self.decoder), features[-2:0:-1], self.heads[1:], strict=True)
        for level, skipped, head in levels:
            x = level(torch.cat([upsample(x), skipped], dim=1))
            maps.append(upsample(maps[-1]) + head(x).float())
        return tuple(maps)
