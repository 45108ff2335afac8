"""Convolutions that every network here is made of.

Plain torch: MONAI's blocks are the same layers, and importing them would take a registration three
seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn3d.errors import InputError

_CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORMS: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


def options_of(**options: Any) -> dict[str, Any]:
    """Constructor arguments as plain JSON values."""
    return {
        name: value if isinstance(value, str) or not isinstance(value, Sequence) else list(value)
        for name, value in options.items()
    }


def convolution(
    spatial_dims: int, in_channels: int, out_channels: int, stride: int = 1, dropout: float = 0.0
) -> nn.Module:
    """A 3-wide convolution, instance normalisation, dropout if any, and a leaky ReLU."""
    make: type[nn.Module] = _CONVOLUTIONS[spatial_dims]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=make(in_channels, out_channels, 3, stride, padding=1, bias=False),
        norm=_NORMS[spatial_dims](out_channels, affine=True),
    )
    if dropout > 0:
        layers["dropout"] = nn.Dropout(dropout)
    layers["act"] = nn.LeakyReLU(0.1, inplace=True)
    return nn.Sequential(layers)


def silent_convolution(
    spatial_dims: int, in_channels: int, out_channels: int, bias: bool = True, width: int = 3
) -> nn.Module:
    """A bare convolution whose weights and bias are 0 at birth: it says nothing yet."""
    layer = _CONVOLUTIONS[spatial_dims](
        in_channels, out_channels, width, padding=width // 2, bias=bias
    )
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Encoder(nn.Module):
    """Features at every level of a pyramid, each level half as fine as the one before.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the image.
        channels: of the features, from the finest level on.
        dropout: share of the features that training leaves out.
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

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, *shape)`` -> one ``(B, channels, *level shape)`` a level, fine to coarse.

        Raises:
            InputError: the coarsest level would be a single voxel.
        """
        factor, shape = 2 ** (len(self.levels) - 1), tuple(image.shape[2:])
        if max(shape) <= factor:
            raise InputError(
                f"images of {shape} voxels are too small for {len(self.levels)} levels: one axis "
                f"must have more than {factor}. Give larger images, or fewer channels."
            )
        features = []
        for level in self.levels:
            image = level(image)
            features.append(image)
        return features


def padded_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """An image with zeros at the end of each axis, so that every size is a multiple; at least twice
    that along the last axis, for a level of a single voxel cannot be normalised."""
    sizes = [-(-n // multiple) * multiple for n in image.shape[2:]]
    sizes[-1] = max(sizes[-1], 2 * multiple)
    sides = [
        side
        for n, wanted in zip(reversed(image.shape[2:]), reversed(sizes), strict=True)
        for side in (0, wanted - n)
    ]
    return F.pad(image, sides) if any(sides) else image


def cropped(image: Tensor, shape: Sequence[int]) -> Tensor:
    """The first voxels of an image, as many as a shape has."""
    for axis, n in enumerate(shape, start=2):
        image = image.narrow(axis, 0, n)
    return image


def doubled(field_vox: Tensor) -> Tensor:
    """A displacement ``(B, d, *shape)`` in voxels, on the grid of half the spacing, in its voxels.

    Voxel i of the coarse grid fills voxels 2i and 2i + 1 of the fine one.
    """
    return 2 * magnified(field_vox)


def full_size(displacement_vox: Tensor, shape: Sequence[int]) -> Tensor:
    """The displacement of a level, ``(B, d, *level shape)`` in its voxels, on the whole grid."""
    while any(m < n for m, n in zip(displacement_vox.shape[2:], shape, strict=True)):
        displacement_vox = doubled(displacement_vox)
    return cropped(displacement_vox, shape)


def averaged(image: Tensor, factor: int) -> Tensor:
    """``(B, C, *shape)`` means over blocks of so many voxels an edge; the shape is a multiple."""
    return F.avg_pool2d(image, factor) if image.ndim == 4 else F.avg_pool3d(image, factor)


def magnified(image: Tensor) -> Tensor:
    """``(B, C, *shape)`` read linearly on the grid of half the spacing."""
    mode = "bilinear" if image.ndim == 4 else "trilinear"
    return F.interpolate(image, scale_factor=2, mode=mode, align_corners=False)


def dense_memory(image: Tensor) -> Tensor:
    """The image with its channels innermost, which convolutions on the CPU run faster on."""
    layout = torch.channels_last if image.ndim == 4 else torch.channels_last_3d
    return image.contiguous(memory_format=layout)
