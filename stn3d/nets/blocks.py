"""Convolution blocks and resampling helpers that all networks share.

Plain PyTorch: MONAI's blocks are the same layers, but importing them takes three seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn3d.arguments import tensor_arguments
from stn3d.errors import InputError

_CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORMS: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def json_options(**options: Any) -> dict[str, Any]:
    """Constructor arguments as plain JSON values: sequences become lists."""
    return {
        name: value if isinstance(value, str) or not isinstance(value, Sequence) else list(value)
        for name, value in options.items()
    }


def convolution(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    stride: int = 1,
    dropout: float = 0.0,
    kernel_size: int = 3,
) -> nn.Module:
    """A convolution, instance normalisation, optional dropout and a leaky ReLU."""
    make: type[nn.Module] = _CONVOLUTIONS[spatial_dims]
    size, padding = kernel_size, kernel_size // 2
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=make(in_channels, out_channels, size, stride, padding=padding, bias=False),
        norm=_NORMS[spatial_dims](out_channels, affine=True),
    )
    if dropout > 0:
        layers["dropout"] = nn.Dropout(dropout)
    layers["act"] = nn.LeakyReLU(0.1, inplace=True)
    return nn.Sequential(layers)


def zero_initialised_convolution(
    spatial_dims: int, in_channels: int, out_channels: int, bias: bool = True, kernel_size: int = 3
) -> nn.Module:
    """A convolution whose weights and bias are initialised to 0, so that its output is 0."""
    layer = _CONVOLUTIONS[spatial_dims](
        in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias
    )
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Encoder(nn.Module):
    """Convolutional encoder that returns the features of every level; each level halves the size.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        channels: Feature channels of each level, finest first.
        dropout: Dropout probability of the features.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, channels: Sequence[int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        before = (in_channels, *channels[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(
                convolution(spatial_dims, a, b, 1 if level == 0 else 2, dropout),
                convolution(spatial_dims, b, b, 1, dropout),
            )
            for level, (a, b) in enumerate(zip(before, channels, strict=True))
        )

    @tensor_arguments()
    def forward(self, image: Tensor) -> list[Tensor]:
        """Encode images.

        Args:
            image: ``(B, C, *shape)``.

        Returns:
            ``(B, channels, *level shape)`` features of each level, finest first.

        Raises:
            InputError: The coarsest level would be a single voxel.
        """
        factor, shape = 2 ** (len(self.levels) - 1), tuple(image.shape[2:])
        if max(shape) <= factor:
            raise InputError(
                f"images of {shape} voxels are too small for {len(self.levels)} levels: one axis "
                f"must have more than {factor} voxels. Use larger images or fewer levels."
            )
        features = []
        for level in self.levels:
            image = level(image)
            features.append(image)
        return features


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Pad each axis with zeros at its end to a multiple of a number of voxels.

    The last axis gets at least twice the multiple, because instance normalisation needs more than
    one voxel.
    """
    sizes = [-(-n // multiple) * multiple for n in image.shape[2:]]
    sizes[-1] = max(sizes[-1], 2 * multiple)
    padding = [
        side
        for n, size in zip(reversed(image.shape[2:]), reversed(sizes), strict=True)
        for side in (0, size - n)
    ]
    return F.pad(image, padding) if any(padding) else image


def crop_to_shape(image: Tensor, shape: Sequence[int]) -> Tensor:
    """The first voxels of an image along each axis, up to a shape."""
    for axis, n in enumerate(shape, start=2):
        if image.shape[axis] != n:  # the gradient of a slice costs a copy
            image = image.narrow(axis, 0, n)
    return image


def upsample_displacement(displacement_vox: Tensor) -> Tensor:
    """A displacement field on a grid of half the spacing.

    Voxel i of the coarse grid covers voxels 2i and 2i + 1 of the fine grid.

    Args:
        displacement_vox: ``(B, d, *shape)`` in voxels of the coarse grid.

    Returns:
        ``(B, d, *fine shape)`` in voxels of the fine grid.
    """
    return 2 * upsample(displacement_vox)


def resize_displacement(displacement_vox: Tensor, shape: Sequence[int]) -> Tensor:
    """A level's displacement field at full resolution.

    Args:
        displacement_vox: ``(B, d, *level shape)`` in voxels of the level.
        shape: Shape of the full-resolution grid.

    Returns:
        ``(B, d, *shape)`` in voxels of the full-resolution grid.
    """
    while any(m < n for m, n in zip(displacement_vox.shape[2:], shape, strict=True)):
        displacement_vox = upsample_displacement(displacement_vox)
    return crop_to_shape(displacement_vox, shape)


def average_pool(image: Tensor, factor: int) -> Tensor:
    """Mean over blocks of ``factor`` voxels along each axis; the shape must be a multiple of it."""
    return F.avg_pool2d(image, factor) if image.ndim == 4 else F.avg_pool3d(image, factor)


def upsample(image: Tensor) -> Tensor:
    """Linear interpolation of ``(B, C, *shape)`` on a grid of half the spacing."""
    mode = "bilinear" if image.ndim == 4 else "trilinear"
    return F.interpolate(image, scale_factor=2, mode=mode, align_corners=False)


def to_channels_last(image: Tensor) -> Tensor:
    """The image in channels-last memory format, in which CPU convolutions are faster."""
    layout = torch.channels_last if image.ndim == 4 else torch.channels_last_3d
    return image.contiguous(memory_format=layout)
