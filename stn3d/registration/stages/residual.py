"""The objective of a linear stage on a level, as a function of the residual's parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import ImageMetric
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.reductions import voxel_sum
from stn3d.sampler import inside
from stn3d.transforms import LINEAR_KINDS, Linear, LinearKind, Transform
from stn3d.warp import fov_overlap_fraction

_FREE_STRETCH = math.log(1.25)
_GROWTH_WEIGHT = 0.1  # of an excess along all axes, in `stretch_penalty`

Loss = Callable[[Tensor], Tensor]
"""A scalar of a matrix or of some parameters, with its gradient."""


@dataclass(frozen=True, eq=False)
class ResidualProblem:
    """A residual transform as a function of scaled parameters ("steps"), and its objective.

    A step of 1 moves the image by about a millimetre.

    Args:
        kind: Kind of the residual.
        pair: The images.
        current: The current transform, fixed points to moving points.
        metric: Metric of the images.
        radius_vox: Half the edge of the metric's window, in voxels.
    """

    kind: LinearKind
    pair: Pair
    current: Transform
    metric: ImageMetric
    radius_vox: float

    @cached_property
    def _identity(self) -> Tensor:
        """Parameters of the identity."""
        return LINEAR_KINDS[self.kind].identity_parameters(self.pair.fixed.grid.ndim)

    @cached_property
    def _scale(self) -> Tensor:
        """Change of each parameter that moves the image by about a millimetre."""
        grid, count = self.pair.fixed.grid, len(self._identity)
        radius_mm = 0.25 * sum(grid.size_mm) / grid.ndim
        rest = torch.full((count - grid.ndim,), 1 / radius_mm)
        return torch.cat([rest, torch.ones(grid.ndim)]).double()

    @cached_property
    def _centre_mm(self) -> Tensor:
        return self.pair.fixed.grid.centre_mm

    @property
    def no_steps(self) -> Tensor:
        """The steps of the identity: zeros."""
        return torch.zeros_like(self._identity)

    def residual(self, steps: Tensor) -> Linear:
        """The residual transform in fixed space."""
        make = LINEAR_KINDS[self.kind]
        return make(self._identity + self._scale * steps, self._centre_mm)

    def total(self, steps: Tensor) -> Transform:
        """The residual and then the current transform."""
        return self.residual(steps).then(self.current)

    def loss_on(self, spacing_mm: float, near: Tensor) -> Loss:
        """The objective on a level, as a function of the steps.

        Args:
            spacing_mm: Spacing of the level.
            near: Steps near which the loss is evaluated.
        """
        image_loss = self._image_loss(spacing_mm, self.residual(near).matrix)
        landmarks = self.pair.landmarks

        def loss_of(steps: Tensor) -> Tensor:
            found = self.residual(steps)
            loss = image_loss(found.matrix) + self._penalty(found.matrix)
            return loss if landmarks is None else loss + landmarks(found.then(self.current))

        return loss_of

    def _penalty(self, matrix: Tensor) -> Tensor:
        """`stretch_penalty` of the residual and the current transform; 0 for a rigid residual."""
        if self.kind == "rigid":
            return matrix.new_zeros(())
        return stretch_penalty(self._current_matrix @ matrix)

    @cached_property
    def _current_matrix(self) -> Tensor:
        if isinstance(self.current, Linear):
            return self.current.matrix
        return torch.eye(self.pair.fixed.grid.ndim + 1).to(self._identity)

    def _image_loss(self, spacing_mm: float, near: Tensor) -> Loss:
        """The images' loss on a level as a function of the residual's matrix, near a given one."""
        fixed, moving = self.pair.fixed.at(spacing_mm), self.pair.moving.at(spacing_mm)
        if isinstance(self.current, Linear):
            from_residual = moving.grid.index_from_world @ self.current.matrix
        else:
            # The moving image is warped by the current transform first; the rest is a matrix.
            margin_mm = 0.25 * max(self.pair.fixed.grid.size_mm)
            max_vox = math.ceil(0.25 * max(fixed.grid.shape))
            moving = moving.warped(self.current, fixed.grid.padded(margin_mm, max_vox))
            from_residual = moving.grid.index_from_world
        to_residual = fixed.grid.world_from_index
        loss = ImageLoss(fixed, moving, self.metric, self.radius_vox)
        loss = loss.near(from_residual @ near @ to_residual)
        return lambda matrix: loss(from_residual @ matrix @ to_residual)


def stretch_penalty(matrix: Tensor) -> Tensor:
    """Penalty of scale changes beyond 1.25, which are rare in anatomy.

    Without it, a transform that shrinks an image to a point or a line can match any image. What all
    axes share counts less: bodies grow, but seldom along one axis alone.

    Args:
        matrix: ``(d + 1, d + 1)``, homogeneous.

    Returns:
        For the excess of the log scale beyond log 1.25 along each principal axis, the sum of the
        squared deviations from their mean, and a tenth of d times its square; a scalar,
        differentiable.
    """
    scales = torch.linalg.svdvals(matrix[:-1, :-1]).log()
    excess = scales - scales.clamp(-_FREE_STRETCH, _FREE_STRETCH)
    growth = excess.mean()
    shape: Tensor = (excess - growth).square().sum()
    return shape + _GROWTH_WEIGHT * len(excess) * growth.square()


def keeps_overlap(pair: Pair, spacing_mm: float, before: Transform, after: Transform) -> bool:
    """Whether a level keeps three quarters of the overlap that it began with, of the field of view
    or of what the fixed image shows.

    Otherwise it lowered the loss by moving what does not match out of the moving image, as a stage
    with scaling may do with images of different contrast.
    """
    fixed, moving = pair.fixed.at(spacing_mm), pair.moving.grid
    kept, had = (fov_overlap_fraction(moving, one, fixed.grid) for one in (after, before))
    if kept >= 0.75 * had:
        return True
    kept, had = (content_overlap_fraction(moving, one, fixed) for one in (after, before))
    return kept >= 0.75 * had


def content_overlap_fraction(moving: Grid, transform: Transform, fixed: PreparedImage) -> float:
    """Fraction of the content of an image, the voxels brighter than its mean, that is mapped into a
    grid: a body may fill a small part of its field of view.

    Args:
        moving: Grid of the moving image.
        transform: Fixed points to moving points.
        fixed: The fixed image, on a coarse level.
    """
    values = fixed.image[0].mean(0)
    mask = torch.ones_like(values) if fixed.mask is None else fixed.mask[0, 0]
    mean = voxel_sum(mask * values) / voxel_sum(mask).clamp(min=1e-12)
    points = fixed.grid.points_mm()[((values > mean) & (mask > 0)).cpu()].double()
    index = apply_matrix(moving.index_from_world, transform(points).double())
    return float(inside(index, moving.shape).double().mean()) if len(index) else 0.0
