"""Several contrasts of either side of a pair: read, checked, joined as channels of the scans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.io import Image, ImageSource, read_image, require_same_grid
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import ChannelGroup, PreparedImage

Sources = Sequence[ImageSource]


@dataclass(frozen=True, eq=False)
class Channels:
    """The contrasts besides the first.

    Args:
        fixed: on the fixed image's grid.
        moving: as many, in the same order, on the moving image's grid.
        weights: of all contrasts, the first too; not negative.
    """

    fixed: tuple[Image, ...]
    moving: tuple[Image, ...]
    weights: tuple[float, ...]

    @property
    def count(self) -> int:
        """Of the contrasts, with the first."""
        return len(self.weights)

    def joined(self, pair: Pair, masks: tuple[Tensor | None, Tensor | None]) -> Pair:
        """A pair of the first contrast with the others as channels.

        Args:
            pair: the scans of the first contrast.
            masks: ``(1, 1, *shape)`` bool of what counts on either side, for the scaling.
        """
        if self.count == 1:
            return pair
        fixed = self._joined(pair.fixed, self.fixed, masks[0])
        return Pair(fixed, self._joined(pair.moving, self.moving, masks[1]))

    def _joined(
        self, scan: PreparedImage, images: Sequence[Image], mask: Tensor | None
    ) -> PreparedImage:
        layers = tuple(ChannelGroup(weight) for weight in self.weights)
        others = [scaled(image.values, mask).to(scan.image) for image in images]
        return replace(scan, image=torch.cat([scan.image, *others], dim=1), channel_groups=layers)


def read_channels(
    images: tuple[Image, Image],
    sources: tuple[Sources | None, Sources | None],
    weights: Sequence[float] | None,
) -> Channels:
    """Read further contrasts and check that they go together.

    Args:
        images: the fixed and the moving image.
        sources: further contrasts of either, in one order; None for none.
        weights: one for each contrast, the first too; None weighs all alike.

    Raises:
        InputError: there are not as many on both sides, one lies on another grid than its first,
            or the weights are not as many, negative or all 0.
    """
    fixed, moving = (list(given or ()) for given in sources)
    if len(fixed) != len(moving):
        raise InputError(
            f"there are {len(fixed)} further channels of the fixed image and {len(moving)} of the "
            "moving image; give as many --fixed-channel as --moving-channel, in the same order."
        )
    chosen = _weights(1 + len(fixed), weights)
    roles = zip((fixed, moving), images, ("fixed", "moving"), strict=True)
    read = [tuple(_channel(one, image, role) for one in given) for given, image, role in roles]
    return Channels(read[0], read[1], chosen)


def _channel(source: ImageSource, image: Image, role: str) -> Image:
    found = read_image(source, f"{role} channel", ndim=image.grid.ndim)
    require_same_grid(found, image, f"{role} channel")
    return found


def _weights(count: int, weights: Sequence[float] | None) -> tuple[float, ...]:
    if not weights:
        return (1.0,) * count
    if len(weights) != count:
        raise InputError(
            f"there are {len(weights)} channel weights and {count} channels with the first; give "
            "one --channel-weight for each, or none."
        )
    for weight in weights:
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"a channel weight is {weight}; give a number from 0 upward.")
    if not any(weights):
        raise InputError("all channel weights are 0; give one above 0.")
    return tuple(float(weight) for weight in weights)
