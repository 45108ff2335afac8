"""A network that tells each voxel's place in a head, and the linear transform of two such charts.

Gopinath et al. 2024, Registration by regression (arXiv:2404.16781), have a network tell for every
voxel of an image where it lies in a common space; a linear transform is then a least-squares fit.
Here the fit is robust, both images are charted, and so the answer needs no start: heads may lie
at any angle that was trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stn3d.nets.blocks import (
    Encoder,
    convolution,
    cropped,
    dense_memory,
    magnified,
    options_of,
    padded_to_multiple,
    silent_convolution,
)


class ChartNetwork(nn.Module):
    """Tells for each voxel its coordinates in a common space, and whether it has any.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the image.
        channels: of the features, from the finest level on; the answer is given on the second.
        dropout: share of the features that training leaves out.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        channels: Sequence[int] = (8, 24, 64, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = options_of(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=channels,
            dropout=dropout,
        )
        self.encoder = Encoder(spatial_dims, in_channels, channels, dropout)
        bottom = channels[-1]
        self.bottom = convolution(spatial_dims, bottom, bottom, 1, dropout)
        up = list(channels[1:])
        self.decoder = nn.ModuleList(
            nn.Sequential(
                convolution(spatial_dims, coarse + fine, fine, 1, dropout),
                convolution(spatial_dims, fine, fine, 1, dropout),
            )
            for fine, coarse in itertools.pairwise(up)
        )
        widths = [bottom, *reversed(up[:-1])]
        self.answers = nn.ModuleList(
            silent_convolution(spatial_dims, width, spatial_dims + 1) for width in widths
        )

    def forward(self, image: Tensor) -> Tensor:
        """Charts of images.

        Args:
            image: ``(B, C, *shape)``, intensities from 0 to 1.25.

        Returns:
            ``(B, d + 1, *coarse)``: coordinates in units of 100 mm, then a logit that the voxel has
            any. Coarse voxel i stands for voxels 2i and 2i + 1.
        """
        return cropped(self.stages(image)[-1], [-(-n // 2) for n in image.shape[2:]])

    def stages(self, image: Tensor) -> tuple[Tensor, ...]:
        """The chart after each level, coarse to fine: each adds to the one before; sizes are those
        of the image, padded at the end to a multiple of the coarsest level."""
        multiple = 2 ** (len(self.encoder.levels) - 1)
        features = self.encoder(dense_memory(padded_to_multiple(image, multiple)))
        x = self.bottom(features[-1])
        charts = [self.answers[0](x).float()]
        levels = zip(reversed(self.decoder), features[-2:0:-1], self.answers[1:], strict=True)
        for level, skipped, answer in levels:
            x = level(torch.cat([magnified(x), skipped], dim=1))
            charts.append(magnified(charts[-1]) + answer(x).float())
        return tuple(charts)
