"""U-Net that segments images of any contrast.

All convolutions work on a grid of twice the image's spacing. Blocks of 2 x 2 x 2 voxels become
channels at the entrance and are restored before the classifier (Shi et al. 2016, sub-pixel
convolution, arXiv:1609.05158). On a CPU wide convolutions on a coarse grid run at several times the
speed of narrow ones on a fine grid, and nothing of the image is lost.
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
)


class SegmentationNetwork(nn.Module):
    """U-Net that maps an image to logits of classes on the image's grid.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        classes: Number of classes.
        channels: Feature channels of each level; the first level has twice the image's spacing.
        voxel_channels: Features of each voxel that the classifier reads.
        dropout: Dropout probability of the features.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        classes: int = 33,
        channels: Sequence[int] = (48, 96, 112, 96),
        voxel_channels: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = json_options(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            classes=classes,
            channels=channels,
            voxel_channels=voxel_channels,
            dropout=dropout,
        )
        block = 2**spatial_dims
        self.encoder = Encoder(spatial_dims, block * in_channels, channels, dropout)
        self.reductions = nn.ModuleList(
            convolution(spatial_dims, coarse, fine, kernel_size=1)
            for fine, coarse in itertools.pairwise(channels)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(
                convolution(spatial_dims, 2 * n, n, 1, dropout),
                convolution(spatial_dims, n, n, 1, dropout),
            )
            for n in channels[:-1]
        )
        self.voxels = convolution(spatial_dims, channels[0], block * voxel_channels)
        self.classifier = nn.Linear(voxel_channels, classes)

    @tensor_arguments()
    def forward(self, image: Tensor) -> Tensor:
        """Logits of images.

        Args:
            image: ``(B, C, *shape)``, intensities from 0 to 1.25.

        Returns:
            ``(B, classes, *shape)``, in channels-last memory format.
        """
        padded = pad_to_multiple(image, 2 ** len(self.encoder.levels))
        features = self.encoder(to_channels_last(blocks_to_channels(padded)))
        x = features[-1]
        levels = zip(
            reversed(self.reductions), reversed(self.decoder), features[-2::-1], strict=True
        )
        for reduce, level, skipped in levels:
            x = level(torch.cat([upsample(reduce(x)), skipped], dim=1))
        logits = self.classifier(channels_to_blocks(self.voxels(x)))
        return crop_to_shape(logits.movedim(-1, 1), image.shape[2:])


def blocks_to_channels(image: Tensor) -> Tensor:
    """``(B, C, *shape)`` of even shape as ``(B, 2^d C, *half shape)``."""
    b, channels, *shape = image.shape
    d = len(shape)
    image = image.reshape(b, channels, *(side for n in shape for side in (n // 2, 2)))
    places = [2 + 2 * axis for axis in range(d)]
    image = image.permute(0, 1, *(p + 1 for p in places), *places)
    return image.reshape(b, channels * 2**d, *(n // 2 for n in shape))


def channels_to_blocks(features: Tensor) -> Tensor:
    """``(B, 2^d C, *half shape)`` as ``(B, *shape, C)``, the inverse with the channels last."""
    b, channels, *half = features.shape
    d = len(half)
    last = features.movedim(1, -1).reshape(b, *half, *[2] * d, channels // 2**d)
    pairs = [axis for i in range(d) for axis in (1 + i, 1 + d + i)]
    return last.permute(0, *pairs, 1 + 2 * d).reshape(b, *(2 * n for n in half), -1)
