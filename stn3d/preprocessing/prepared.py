"""Images prepared for registration: scaled, masked, with their image pyramid."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.grid import Grid
from stn3d.transforms import Transform
from stn3d.warp import resample_image, warp_image

T = TypeVar("T")
Statistic = Callable[[Tensor, Tensor | None, Sequence[float]], float]
"""A number that describes an image ``(1, C, *shape)`` within a mask, at a spacing in mm."""


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of an image that are compared together, apart from all others.

    Args:
        weight: Weight of the group in the loss, from 0 upward.
        channels: Number of channels.
        labels: Whether the channels are labels, which are compared by their overlap, or a contrast.
    """

    weight: float
    channels: int = 1
    labels: bool = False


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """One image of a pair and its image pyramid.

    Args:
        image: ``(1, C, *grid.shape)`` float32, intensities scaled to about 0 to 1.
        grid: Grid of the voxels.
        mask: Weights of voxels from 0 to 1, ``(1, 1, *grid.shape)``; None where all have weight 1.
        channel_groups: Groups of channels in order, the image's first contrast before all others;
            None where all channels are that single contrast.
    """

    image: Tensor
    grid: Grid
    mask: Tensor | None = None
    channel_groups: tuple[ChannelGroup, ...] | None = None
    _cache: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def cached(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made at its first use and kept with the image.

        Args:
            key: Identifies the value among all that are kept.
            make: Makes the value.
        """
        if key not in self._cache:
            self._cache[key] = make()
        value: T = self._cache[key]
        return value

    def statistic(self, of: Statistic) -> float:
        """A number that describes the image within its mask, computed once."""
        return self.cached(of, lambda: of(self.image, self.mask, self.grid.spacing_mm))

    @property
    def groups(self) -> list[PreparedImage]:
        """Each channel group as an image of its own."""
        if self.channel_groups is None:
            return [self]
        return self.cached(
            "groups",
            lambda: [
                replace(self, image=part, channel_groups=None) for part in self.split(self.image)
            ],
        )

    def split(self, channels: Tensor) -> tuple[Tensor, ...]:
        """The channel groups of ``(1, C, *shape)``."""
        assert self.channel_groups is not None
        sizes = [group.channels for group in self.channel_groups]
        parts: tuple[Tensor, ...] = channels.split(sizes, dim=1)
        return parts

    def map_groups(
        self, channels: Tensor, function: Callable[[Tensor], Tensor], **changes: Any
    ) -> PreparedImage:
        """The image with a function of each contrast in place of its voxels; labels stay.

        Args:
            channels: ``(1, C, *shape)`` with the channels of this image.
            function: Applied to the channels of one group; may change their number.
            changes: Other fields to replace.
        """
        if self.channel_groups is None:
            return replace(self, image=function(channels), **changes)
        pairs = list(zip(self.split(channels), self.channel_groups, strict=True))
        parts = [part if group.labels else function(part) for part, group in pairs]
        groups = tuple(
            replace(group, channels=part.shape[1])
            for part, group in zip(parts, self.channel_groups, strict=True)
        )
        return replace(self, image=torch.cat(parts, dim=1), channel_groups=groups, **changes)

    @property
    def has_labels(self) -> bool:
        """Whether a channel group holds labels."""
        return any(group.labels for group in self.channel_groups or ())

    def at(self, spacing_mm: float) -> PreparedImage:
        """The image coarsened to a spacing, computed once."""
        grid = self.grid.coarsened(spacing_mm)
        if grid.shape == self.grid.shape:
            return self
        # From the level of half the spacing: Gaussians add up, and small ones are the cheapest.
        # By spacing, not by shape, so that the level does not depend on which others were made.
        key = "level", spacing_mm
        return self.cached(key, lambda: self.at(spacing_mm / 2)._resampled(grid))

    def _resampled(self, grid: Grid) -> PreparedImage:
        """The image on a coarser grid; masked voxels do not leak across the edge of the mask."""
        if self.mask is None:
            return replace(self, image=resample_image(self.image, self.grid, grid), grid=grid)
        mask = resample_image(self.mask, self.grid, grid)
        image = resample_image(self.image * self.mask, self.grid, grid)
        return replace(self, image=image / mask.clamp(min=1e-6), grid=grid, mask=mask)

    def cropped(
        self, start: Sequence[int], stop: Sequence[int], statistics: Sequence[Statistic] = ()
    ) -> PreparedImage:
        """The part from voxel ``start`` up to but without ``stop``, 0 beyond the image.

        Args:
            start: First voxel along each axis; may be negative.
            stop: End along each axis; may be beyond the image.
            statistics: Statistics that the part takes from the whole image, because the voxels that
                are cut off are background.
        """
        limits = list(zip(start, stop, self.grid.shape, strict=True))
        sides = [side for a, b, n in reversed(limits) for side in (-a, b - n)]
        mask = None if self.mask is None else F.pad(self.mask, sides).contiguous()
        image, grid = F.pad(self.image, sides).contiguous(), self.grid.cropped(start, stop)
        part = replace(self, image=image, grid=grid, mask=mask)
        for one, whole in zip(part.groups, self.groups, strict=True):
            one._cache.update({of: whole.statistic(of) for of in statistics})
        return part

    def mirrored(self, x_mm: float = 0.0) -> PreparedImage:
        """The image with left and right exchanged about the plane ``x = x_mm``."""
        return replace(self, grid=self.grid.mirrored(x_mm))

    def warped(self, transform: Transform, grid: Grid) -> PreparedImage:
        """The image warped to a grid, with a mask of the voxels that it covers.

        Args:
            transform: Points of the grid to points of the image.
            grid: The grid of the result.
        """
        mask = torch.ones_like(self.image[:, :1]) if self.mask is None else self.mask
        image, seen = (warp_image(v, self.grid, transform, grid) for v in (self.image, mask))
        return replace(self, image=image, grid=grid, mask=seen)

    def with_mask(self) -> PreparedImage:
        """The image with a mask of ones if it has none."""
        mask = torch.ones_like(self.image[:, :1]) if self.mask is None else self.mask
        return replace(self, mask=mask)


def bounding_box(mask: Tensor) -> tuple[list[int], list[int]]:
    """First voxel and end of the box around a mask ``(*shape)`` along each axis; the whole grid
    where the mask is empty."""
    start, stop = [], []
    for axis, n in enumerate(mask.shape):
        others = [a for a in range(mask.ndim) if a != axis]
        along = mask.amax(dim=others).nonzero()
        start.append(int(along[0]) if len(along) else 0)
        stop.append(int(along[-1]) + 1 if len(along) else n)
    return start, stop
