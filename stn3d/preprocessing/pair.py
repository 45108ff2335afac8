"""The pair of images as estimators see it: scaled, masked, at every resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.losses.modality import mind_descriptor, mind_weight
from stn3d.losses.points import LandmarkTerm
from stn3d.losses.similarity import (
    SIMILARITIES,
    MetricName,
    edge_strength,
    mse,
    variance,
    window_radii,
)
from stn3d.losses.supervised import dice
from stn3d.transforms import Affine, Transform
from stn3d.warp import resample_image, warp_image

_MIND = {"radius": 1, "dilation": 1}  # of the patches and of the neighbours, in voxels of a level
_BEYOND_VOX = 3  # a descriptor is read up to a voxel beyond the faces, and reaches 2 further
_AROUND_VOX = 12  # of a level: so far a linear residual may move what lies in its frame


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of a scan that are compared by themselves.

    Args:
        weight: how much they count, from 0 upward.
        channels: how many they are.
        labels: whether they are shares of labels, which are compared by their overlap, and not a
            contrast.
    """

    weight: float
    channels: int = 1
    labels: bool = False


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """One image of a pair, and its coarser versions.

    Args:
        image: ``(1, C, *grid.shape)`` float32, intensities scaled to about 0 to 1.
        grid: where its voxels lie.
        mask: ``(1, 1, *grid.shape)`` weights of voxels from 0 to 1, or None for all.
        layers: what the channels are, in turn, the image's first contrast before all; None where
            they are that one image.
    """

    image: Tensor
    grid: Grid
    mask: Tensor | None = None
    channel_groups: tuple[ChannelGroup, ...] | None = None
    _levels: dict[tuple[int, ...], PreparedImage] = field(
        default_factory=dict, init=False, repr=False
    )
    _windows: dict[tuple[int, ...], tuple[kernels.Region, kernels.Region]] = field(
        default_factory=dict, init=False, repr=False
    )

    @cached_property
    def parts(self) -> list[PreparedImage]:
        """Each layer by itself."""
        if self.channel_groups is None:
            return [self]
        return [replace(self, image=part, channel_groups=None) for part in self.split(self.image)]

    def split(self, channels: Tensor) -> tuple[Tensor, ...]:
        """The layers of ``(1, C, *shape)``."""
        assert self.channel_groups is not None
        parts: tuple[Tensor, ...] = channels.split(
            [layer.channels for layer in self.channel_groups], dim=1
        )
        return parts

    @property
    def labelled(self) -> bool:
        """Whether labels are among the layers."""
        return any(layer.labels for layer in self.channel_groups or ())

    @cached_property
    def described(self) -> PreparedImage:
        """Its `stn3d.losses.modality.mind_descriptor` in place of the image; found once."""
        mask = None if self.mask is None else mind_weight(self.mask, **_MIND)
        return self._described(self.image, self.mask, grid=self.grid, mask=mask)

    def described_on(self, grid: Grid, transform: Transform) -> PreparedImage:
        """The descriptors of the scan as seen through a transform on a grid.

        Descriptors know directions and distances, so two scans' can be compared only where they
        were found along the same axes. What the scan does not reach is masked.
        """
        step_mm = _BEYOND_VOX * max(grid.spacing_mm)
        sides = [math.ceil(step_mm / s) for s in self.grid.spacing_mm for _ in range(2)][::-1]
        wider = F.pad(self.image, sides, mode="replicate"), self.grid.padded(step_mm)
        known = torch.ones_like(self.image[:, :1])
        if self.mask is not None:
            known = mind_weight(self.mask, **_MIND)
        image = warp_image(*wider, transform, grid)
        seen = warp_image(known, self.grid, transform, grid)
        return self._described(image, seen, grid=grid, mask=seen)

    def _described(self, image: Tensor, seen: Tensor | None, **changes: Any) -> PreparedImage:
        """With the descriptors of an image of the scan's layers, each contrast by its own variance;
        labels stay as they are."""
        if self.channel_groups is None:
            return replace(self, image=mind_descriptor(image, seen, **_MIND), **changes)
        parts = [
            part if layer.labels else mind_descriptor(part, seen, **_MIND)
            for part, layer in zip(self.split(image), self.channel_groups, strict=True)
        ]
        layers = tuple(
            replace(layer, channels=part.shape[1])
            for part, layer in zip(parts, self.channel_groups, strict=True)
        )
        return replace(self, image=torch.cat(parts, dim=1), channel_groups=layers, **changes)

    @cached_property
    def variance(self) -> float:
        """The variance of the image within the mask."""
        return variance(self.image, self.mask)

    @cached_property
    def edge(self) -> float:
        """What counts as an edge of the image within the mask, per mm."""
        return edge_strength(self.image, self.mask, self.grid.spacing_mm)

    def windows(self, radius_vox: float) -> tuple[kernels.Region, kernels.Region]:
        """The centres of all windows that are not flat, and the voxels in them; found once."""
        radii = window_radii(radius_vox * min(self.grid.spacing_mm), self.grid.spacing_mm)
        if tuple(radii) not in self._windows:
            centres = kernels.Region.of(textured(self, radii))
            self._windows[tuple(radii)] = centres, centres.grown(radii)
        return self._windows[tuple(radii)]

    def at(self, spacing_mm: float) -> PreparedImage:
        """The scan coarsened to a spacing; computed once."""
        grid = self.grid.coarsened(spacing_mm)
        if grid.shape == self.grid.shape:
            return self
        if grid.shape not in self._levels:
            # From the level of half the spacing: Gaussians add up, and small ones cost least.
            self._levels[grid.shape] = self.at(spacing_mm / 2)._resampled(grid)
        return self._levels[grid.shape]

    def _resampled(self, grid: Grid) -> PreparedImage:
        """On a coarser grid; what the mask leaves out does not leak over its edge."""
        if self.mask is None:
            return replace(self, image=resample_image(self.image, self.grid, grid), grid=grid)
        mask = resample_image(self.mask, self.grid, grid)
        image = resample_image(self.image * self.mask, self.grid, grid)
        return replace(self, image=image / mask.clamp(min=1e-6), grid=grid, mask=mask)

    def framed(self, start: Sequence[int], stop: Sequence[int]) -> PreparedImage:
        """The part from voxel ``start`` up to but without ``stop``; beyond the image 0."""
        limits = list(zip(start, stop, self.grid.shape, strict=True))
        sides = [side for a, b, n in reversed(limits) for side in (-a, b - n)]
        mask = None if self.mask is None else F.pad(self.mask, sides).contiguous()
        image, grid = F.pad(self.image, sides).contiguous(), self.grid.cropped(start, stop)
        part = replace(self, image=image, grid=grid, mask=mask)
        for one, whole in zip(part.parts, self.parts, strict=True):
            # Of the whole: what is cut away was background.
            one.__dict__.update(variance=whole.variance, edge=whole.edge)
        part.__dict__["variance"] = self.variance
        return part

    def through(self, transform: Transform, grid: Grid) -> PreparedImage:
        """The scan as seen through a transform, on a grid; what it does not reach is masked."""
        mask = torch.ones_like(self.image[:, :1]) if self.mask is None else self.mask
        image, seen = (warp_image(v, self.grid, transform, grid) for v in (self.image, mask))
        return replace(self, image=image, grid=grid, mask=seen)

    def masked(self) -> PreparedImage:
        """The scan with a mask, of ones where it had none."""
        mask = torch.ones_like(self.image[:, :1]) if self.mask is None else self.mask
        return replace(self, mask=mask)


@dataclass(frozen=True, eq=False)
class Pair:
    """The fixed and the moving scan, and landmarks that steer beside them, if there are any."""

    fixed: PreparedImage
    moving: PreparedImage
    landmarks: LandmarkTerm | None = None

    @property
    def first(self) -> Pair:
        """Of several layers the first: the images alone."""
        if self.fixed.channel_groups is None:
            return self
        return Pair(self.fixed.parts[0], self.moving.parts[0], self.landmarks)

    @property
    def swapped(self) -> Pair:
        """With the roles changed."""
        landmarks = None if self.landmarks is None else self.landmarks.swapped
        return Pair(self.moving, self.fixed, landmarks)

    def at(self, spacing_mm: float) -> Pair:
        """Both scans coarsened."""
        return Pair(self.fixed.at(spacing_mm), self.moving.at(spacing_mm), self.landmarks)

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


@dataclass(frozen=True, eq=False)
class ImageLoss:
    """The loss between the fixed scan and the moving scan read through a matrix.

    Voxels outside either image or mask do not count; towards the faces of the moving image their
    weight fades over one voxel, so that the loss has no jumps.

    Args:
        fixed: the fixed scan.
        moving: the moving scan, on a grid of its own.
        metric: which loss.
        radius_vox: half the window of the local correlation, in voxels.
        frame: ``(d + 1, d + 1)`` indices of the moving scan given here from those of the one that
            matrices lead to, where they differ; see `near`.
    """

    fixed: PreparedImage
    moving: PreparedImage
    metric: MetricName
    radius_vox: float = 2.0
    frame: Tensor | None = None

    def near(self, moving_from_fixed_index: Tensor) -> ImageLoss:
        """The same for matrices near one: descriptors are found as that lays the scans."""
        if self.metric != "mind" or self.frame is not None:
            return self
        matrix = moving_from_fixed_index.detach()
        grid = self.fixed.grid.padded(_AROUND_VOX * min(self.fixed.grid.spacing_mm))
        moving_from_fixed = (
            self.moving.grid.world_from_index @ matrix @ self.fixed.grid.index_from_world
        )
        moving = self.moving.described_on(grid, Affine.from_matrix(moving_from_fixed))
        frame = grid.index_from_world @ self.fixed.grid.world_from_index @ torch.linalg.inv(matrix)
        return ImageLoss(self.fixed.described, moving, "mind", self.radius_vox, frame)

    def __call__(self, moving_from_fixed_index: Tensor) -> Tensor:
        """A scalar, differentiable once in the matrix ``(d + 1, d + 1)``: homogeneous, float64."""
        if self.metric == "mind" and self.frame is None:
            return self.near(moving_from_fixed_index)(moving_from_fixed_index)
        if self.frame is not None:
            moving_from_fixed_index = self.frame @ moving_from_fixed_index
        matrix, wanted = moving_from_fixed_index.detach(), moving_from_fixed_index.requires_grad
        read = kernels.warp(self._layers, matrix, self._still, self._windows[1], self._scratch)
        inputs = [
            t.detach().requires_grad_(wanted) for t in (read.moved, read.coverage) if t is not None
        ]
        with torch.set_grad_enabled(wanted):
            loss = self._loss(*inputs)
        if not wanted:
            return loss
        by_layers, *rest = torch.autograd.grad(loss, inputs)
        by_coverage = rest[0] if rest else None
        slope = kernels.warp_gradient(
            self._layers, matrix, self._still, by_layers, by_coverage, self._windows[1]
        )
        linear = (slope * (moving_from_fixed_index - matrix)[:-1]).sum()
        return loss.detach() + linear.to(loss)

    def _loss(self, layers: Tensor, coverage: Tensor | None = None) -> Tensor:
        moved, seen = layers, None
        if self.moving.mask is not None:
            moved, seen = layers[:, :-1], layers[:, -1:]
        weights = [w for w in (self.fixed.mask, coverage, seen) if w is not None]
        weight = math.prod(weights[1:], start=weights[0]) if weights else None
        rest = self.metric, self.radius_vox, self._windows[0]
        return image_loss(self.fixed, self.moving, moved, weight, *rest)

    @cached_property
    def _layers(self) -> Tensor:
        """The moving image, and its mask for a last channel if there is one."""
        image, mask = self.moving.image, self.moving.mask
        return image if mask is None else torch.cat([image, mask.to(image)], dim=1)

    @cached_property
    def _windows(self) -> tuple[kernels.Region | None, kernels.Region | None]:
        """The centres of the windows that count, and the voxels in them; None for all."""
        if self.metric != "lncc" or self.fixed.labelled:
            return None, None
        return self.fixed.windows(self.radius_vox)

    @cached_property
    def _still(self) -> Tensor:
        """No displacement."""
        return torch.zeros(1, self.fixed.grid.ndim, *self.fixed.grid.shape).to(self.fixed.image)

    @cached_property
    def _scratch(self) -> kernels.Buffers:
        return kernels.buffers(self._layers, self._still)


def image_loss(
    fixed: PreparedImage,
    moving: PreparedImage,
    moved: Tensor,
    weight: Tensor | None,
    metric: MetricName,
    radius_vox: float = 2.0,
    windows: kernels.Region | None = None,
) -> Tensor:
    """The loss between the fixed scan and the moving scan's moved image.

    Args:
        fixed, moving: the scans, `described` for ``mind``.
        moved: ``(1, C, *fixed.shape)``.
        weight: ``(1, 1, *fixed.shape)``, or None where all counts.
        windows: see `stn3d.losses.similarity.lncc`.

    Returns:
        A scalar, of several layers the mean by their weights.
    """
    if fixed.channel_groups is not None:
        each = zip(fixed.channel_groups, fixed.parts, moving.parts, fixed.split(moved), strict=True)
        terms = []
        for layer, a, b, part in each:
            if layer.labels:
                loss = dice(a.image, part, weight)
            else:
                loss = image_loss(a, b, part, weight, metric, radius_vox, windows)
            terms.append(layer.weight * loss)
        return torch.stack(terms).sum() / sum(layer.weight for layer in fixed.channel_groups)
    if metric == "mind":
        return mse(fixed.image, moved, weight)
    options: dict[str, Any] = {}
    if metric == "lncc":
        spacing = fixed.grid.spacing_mm
        options = {"radius_mm": radius_vox * min(spacing), "spacing_mm": spacing}
        options |= {"variances": (fixed.variance, moving.variance), "windows": windows}
    if metric == "gradient":
        options = {"edges": (fixed.edge, moving.edge), "spacing_mm": fixed.grid.spacing_mm}
    loss = SIMILARITIES[metric](fixed.image, moved, weight, **options)
    return loss


def textured(scan: PreparedImage, radii: Sequence[int]) -> Tensor:
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
