"""The loss between a fixed image and a moving image that is resampled through a matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.losses.similarity.base import ImageMetric, LossContext
from stn3d.losses.supervised import dice
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Affine, Linear

_AROUND_VOX = 12  # of a level: margin within which a linear residual may move the moving image


@dataclass(frozen=True, eq=False)
class ImageLoss:
    """The loss between the fixed image and the moving image resampled through a matrix.

    Voxels outside either image or mask have no weight. Towards the faces of the moving image the
    weight fades over one voxel, so that the loss is continuous.

    Args:
        fixed: The fixed image.
        moving: The moving image, on its own grid.
        metric: The metric.
        radius_vox: Half the edge of a window, in voxels.
        frame: ``(d + 1, d + 1)`` indices of the moving image given here from indices of the image
            that matrices map to, where the two differ; see `near`.
    """

    fixed: PreparedImage
    moving: PreparedImage
    metric: ImageMetric
    radius_vox: float = 2.0
    frame: Tensor | None = None

    def near(self, moving_from_fixed_index: Tensor) -> ImageLoss:
        """The loss for matrices near a given one.

        A metric that depends on axes prepares the moving image here, on the fixed image's axes.

        Args:
            moving_from_fixed_index: ``(d + 1, d + 1)``.
        """
        if not self.metric.depends_on_axes or self.frame is not None:
            return self
        matrix = moving_from_fixed_index.detach()
        grid = self.fixed.grid.padded(_AROUND_VOX * min(self.fixed.grid.spacing_mm))
        moving_from_fixed = (
            self.moving.grid.world_from_index @ matrix @ self.fixed.grid.index_from_world
        )
        transform = Affine.from_matrix(moving_from_fixed)
        moving = self.metric.prepared_through(self.moving, transform, grid)
        frame = grid.index_from_world @ self.fixed.grid.world_from_index @ torch.linalg.inv(matrix)
        fixed = self.metric.prepared(self.fixed)
        return ImageLoss(fixed, moving, self.metric, self.radius_vox, frame)

    def under(self, transform: Linear) -> float:
        """The loss under a transform, fixed points to moving points."""
        matrix = transform.matrix
        fixed, moving = self.fixed.grid, self.moving.grid
        return float(self(moving.index_from_world @ matrix @ fixed.world_from_index))

    def __call__(self, moving_from_fixed_index: Tensor) -> Tensor:
        """The loss of a matrix.

        Args:
            moving_from_fixed_index: ``(d + 1, d + 1)``, homogeneous, float64.

        Returns:
            A scalar, differentiable once in the matrix.
        """
        if self.metric.depends_on_axes and self.frame is None:
            return self.near(moving_from_fixed_index)(moving_from_fixed_index)
        if self.frame is not None:
            moving_from_fixed_index = self.frame @ moving_from_fixed_index
        matrix, wanted = moving_from_fixed_index.detach(), moving_from_fixed_index.requires_grad
        covered = self._support[1]
        read = kernels.warp(self._channels, matrix, self._no_displacement, covered, self._buffers)
        inputs = [
            t.detach().requires_grad_(wanted) for t in (read.moved, read.coverage) if t is not None
        ]
        with torch.set_grad_enabled(wanted):
            loss = self._loss(*inputs)
        if not wanted:
            return loss
        by_channels, *rest = torch.autograd.grad(loss, inputs)
        by_coverage = rest[0] if rest else None
        by_matrix = kernels.warp_gradient(
            self._channels, matrix, self._no_displacement, by_channels, by_coverage, covered
        )
        linear = (by_matrix * (moving_from_fixed_index - matrix)[:-1]).sum()
        return loss.detach() + linear.to(loss)

    def _loss(self, channels: Tensor, coverage: Tensor | None = None) -> Tensor:
        moved, moved_mask = channels, None
        if self.moving.mask is not None:
            moved, moved_mask = channels[:, :-1], channels[:, -1:]
        weights = [w for w in (self.fixed.mask, coverage, moved_mask) if w is not None]
        weight = math.prod(weights[1:], start=weights[0]) if weights else None
        rest = self.metric, self.radius_vox, self._support[0]
        return image_loss(self.fixed, self.moving, moved, weight, *rest)

    @cached_property
    def _channels(self) -> Tensor:
        """The moving image, with its mask as the last channel if it has one."""
        image, mask = self.moving.image, self.moving.mask
        return image if mask is None else torch.cat([image, mask.to(image)], dim=1)

    @cached_property
    def _support(self) -> tuple[kernels.Region | None, kernels.Region | None]:
        """Centres of the windows that contribute and the voxels that they cover; None for all."""
        if self.fixed.has_labels:
            return None, None
        radii = self.metric.window_radii(self.radius_vox, self.fixed.grid.spacing_mm)
        return self.fixed.cached((type(self.metric), "support", *radii), lambda: self._find(radii))

    def _find(self, radii: list[int]) -> tuple[kernels.Region | None, kernels.Region | None]:
        support = self.metric.support(self.fixed, radii)
        if support is None:
            return None, None
        centres = kernels.Region.of(support)
        return centres, centres.grown(radii)

    @cached_property
    def _no_displacement(self) -> Tensor:
        return torch.zeros(1, self.fixed.grid.ndim, *self.fixed.grid.shape).to(self.fixed.image)

    @cached_property
    def _buffers(self) -> kernels.Buffers:
        return kernels.buffers(self._channels, self._no_displacement)


def image_loss(
    fixed: PreparedImage,
    moving: PreparedImage,
    moved: Tensor,
    weight: Tensor | None,
    metric: ImageMetric,
    radius_vox: float = 2.0,
    centres: kernels.Region | None = None,
) -> Tensor:
    """The loss between the fixed image and the warped moving image.

    Args:
        fixed: The fixed image, as `ImageMetric.prepared` returns it.
        moving: The moving image, likewise.
        moved: Channels of the moving image on the fixed grid, ``(1, C, *fixed.shape)``.
        weight: Weights of voxels, ``(1, 1, *fixed.shape)``; None where all have weight 1.
        metric: The metric of the contrasts; labels are compared by Dice.
        radius_vox: Half the edge of a window, in voxels.
        centres: Centres of the windows that contribute; None for all.

    Returns:
        A scalar; the weighted mean over the channel groups.
    """
    if fixed.channel_groups is None:
        statistics = fixed.statistic(metric.statistic), moving.statistic(metric.statistic)
        context = LossContext(fixed.grid.spacing_mm, radius_vox, statistics, centres)
        return metric.loss(fixed.image, moved, weight, context)
    each = zip(fixed.channel_groups, fixed.groups, moving.groups, fixed.split(moved), strict=True)
    terms = []
    for group, a, b, part in each:
        if group.labels:
            loss = dice(a.image, part, weight)
        else:
            loss = image_loss(a, b, part, weight, metric, radius_vox, centres)
        terms.append(group.weight * loss)
    return torch.stack(terms).sum() / sum(group.weight for group in fixed.channel_groups)
