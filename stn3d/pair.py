"""The pair of images as localisers see it: scaled, masked, at every resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.losses.similarity import SIMILARITIES, Similarity, variance
from stn3d.sampler import sample
from stn3d.warp import resample_image


@dataclass(frozen=True, eq=False)
class Scan:
    """One image of a pair, and its coarser versions.

    Args:
        image: ``(1, C, *grid.shape)`` float32, intensities scaled to about 0 to 1.
        grid: where its voxels lie.
        mask: ``(1, 1, *grid.shape)`` weights of voxels from 0 to 1, or None for all.
    """

    image: Tensor
    grid: Grid
    mask: Tensor | None = None
    _levels: dict[tuple[int, ...], Scan] = field(default_factory=dict, repr=False)

    @cached_property
    def variance(self) -> float:
        """The variance of the image within the mask."""
        return variance(self.image, self.mask)

    def at(self, spacing_mm: float) -> Scan:
        """The scan coarsened to a spacing; computed once."""
        grid = self.grid.coarsened(spacing_mm)
        if grid.shape == self.grid.shape:
            return self
        if grid.shape not in self._levels:
            self._levels[grid.shape] = self._resampled(grid)
        return self._levels[grid.shape]

    def _resampled(self, grid: Grid) -> Scan:
        """On a coarser grid; what the mask leaves out does not leak over its edge."""
        if self.mask is None:
            return Scan(resample_image(self.image, self.grid, grid), grid)
        mask = resample_image(self.mask, self.grid, grid)
        image = resample_image(self.image * self.mask, self.grid, grid)
        return Scan(image / mask.clamp(min=1e-6), grid, mask)

    def framed(self, start: Sequence[int], stop: Sequence[int]) -> Scan:
        """The part from voxel ``start`` up to but without ``stop``; beyond the image 0."""
        limits = list(zip(start, stop, self.grid.shape, strict=True))
        sides = [side for a, b, n in reversed(limits) for side in (-a, b - n)]
        mask = None if self.mask is None else F.pad(self.mask, sides).contiguous()
        part = Scan(F.pad(self.image, sides).contiguous(), self.grid.cropped(start, stop), mask)
        part.__dict__["variance"] = self.variance  # of the whole: what is cut away was background
        return part

    def masked(self) -> Scan:
        """The scan with a mask, of ones where it had none."""
        mask = torch.ones_like(self.image[:, :1]) if self.mask is None else self.mask
        return Scan(self.image, self.grid, mask)


@dataclass(frozen=True, eq=False)
class Pair:
    """The fixed and the moving scan."""

    fixed: Scan
    moving: Scan

    @property
    def finest_mm(self) -> float:
        """The finest spacing that both scans have."""
        return max(min(self.fixed.grid.spacing_mm), min(self.moving.grid.spacing_mm))

    def level_spacings_mm(self, factors: Sequence[float], min_voxels: int = 8) -> list[float]:
        """Multiples of the finest spacing; all but the last are dropped where they leave an image
        fewer than ``min_voxels`` along its shortest axis (axes of a few thick slices aside).
        Where the last would, it is made as fine as that asks and the images allow."""
        extents = [
            size
            for scan in (self.fixed, self.moving)
            for size, n in zip(scan.grid.size_mm, scan.grid.shape, strict=True)
            if n >= min_voxels
        ]
        shortest = min(extents, default=0.0)
        *coarse, last = (factor * self.finest_mm for factor in factors)
        if extents:
            last = max(self.finest_mm, min(last, shortest / min_voxels))
        return [s for s in coarse if shortest / s >= min_voxels] + [last]


def scaled(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Intensities with the dimmest half percent at 0 and the foreground's brightest at 1.

    Foreground is whatever is brighter than the dimmest half percent; its brightest half percent
    ends at 1.25, so that a few bright voxels do not press the rest together. What a bool mask
    leaves out does not count, if that is less than half of the image; a smaller mask marks a part
    to look at, which would not tell how bright the whole is.
    """
    seen = values if mask is None or 2 * int(mask.sum()) < mask.numel() else values[mask]
    few = seen.flatten()[:: max(1, seen.numel() // 1_000_000)].double()
    low = torch.quantile(few, 0.005)
    bright = few[few > low]
    high = torch.quantile(bright, 0.995) if len(bright) else seen.max().double()
    if float(high) <= float(low):
        low, high = seen.min().double(), seen.max().double()
    span = max(float(high - low), torch.finfo(values.dtype).tiny)
    return ((values - float(low)) / span).clamp(0, 1.25)


def dissimilarity(
    fixed: Scan, moving: Scan, index: Tensor, similarity: Similarity, radius_vox: float = 2.0
) -> Tensor:
    """The loss between the fixed scan and the moving scan read at ``(*fixed.shape, d)`` indices.

    Voxels outside either image or mask do not count; towards the faces of the moving image their
    weight fades over one voxel, so that the loss has no jumps.

    Args:
        fixed: the fixed scan.
        moving: the moving scan, on a grid of its own.
        index: where each fixed voxel falls, in indices of the moving grid.
        similarity: which loss.
        radius_vox: half the window of the local correlation, in voxels.
    """
    moved, weight = sample(moving.image, index[None]), counted(fixed, moving, index)
    return unlikeness(fixed, moving, moved, weight, similarity, radius_vox)


def unlikeness(
    fixed: Scan,
    moving: Scan,
    moved: Tensor,
    weight: Tensor | None,
    similarity: Similarity,
    radius_vox: float = 2.0,
    windows: kernels.Region | None = None,
) -> Tensor:
    """The loss between the fixed scan and the moving scan's moved image.

    Args:
        moved: ``(1, C, *fixed.shape)``.
        weight: ``(1, 1, *fixed.shape)``, or None where all counts.
        windows: see `stn3d.losses.similarity.lncc`.
    """
    options: dict[str, Any] = {}
    if similarity == "lncc":
        spacing = fixed.grid.spacing_mm
        options = {"radius_mm": radius_vox * min(spacing), "spacing_mm": spacing}
        options |= {"variances": (fixed.variance, moving.variance), "windows": windows}
    loss: Tensor = SIMILARITIES[similarity](fixed.image, moved, weight, **options)
    return loss


def counted(fixed: Scan, moving: Scan, index: Tensor) -> Tensor | None:
    """The weight ``(1, 1, *fixed.shape)`` of voxels that fall to ``(*fixed.shape, d)`` indices.

    What lies inside the moving image and both masks counts; None where everything does.
    """
    within = kernels.coverage(index, moving.grid.shape)
    if fixed.mask is None and moving.mask is None and bool((within == 1).all()):
        return None
    weight = within[None, None]
    if moving.mask is not None:
        weight = weight * sample(moving.mask, index[None], outside_value=1.0)
    return weight if fixed.mask is None else weight * fixed.mask


def textured(scan: Scan, radii: Sequence[int]) -> Tensor:
    """``grid.shape`` bool: the centres of windows that are not flat.

    Only there does the local correlation count, see `stn3d.losses.similarity.lncc`.
    """
    radii = [min(r, n - 1) for r, n in zip(radii, scan.grid.shape, strict=True)]
    count = kernels.box_sum(torch.ones_like(scan.image[:, :1]), radii)
    mean = kernels.box_sum(scan.image, radii) / count
    spread = kernels.box_sum(scan.image**2, radii) / count - mean**2
    return (spread > 1e-5 * scan.variance)[0].any(dim=0)


def bounds(mask: Tensor) -> tuple[list[int], list[int]]:
    """The first voxels and the ends of the box around a mask ``(*shape)``; all if it is empty."""
    start, stop = [], []
    for axis, n in enumerate(mask.shape):
        others = [a for a in range(mask.ndim) if a != axis]
        along = mask.amax(dim=others).nonzero()
        start.append(int(along[0]) if len(along) else 0)
        stop.append(int(along[-1]) + 1 if len(along) else n)
    return start, stop
