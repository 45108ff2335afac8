"""Rigid, similarity and affine residuals by quasi-Newton steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.losses.similarity import MetricName
from stn3d.preprocessing.pair import ImageLoss, Pair
from stn3d.registration.stages.base import Level, LevelProgress, Progress
from stn3d.registration.stages.quasi_newton import Vector, minimise
from stn3d.transforms import LINEAR_KINDS, Linear, LinearKind, Transform
from stn3d.warp import fov_overlap_fraction

_ROUGH = 1e-5  # the tolerance of a look aside, which finds a hollow and not its bottom
_EVALUATIONS = 20  # of the loss on a level, about as many as most levels take
_FREE_STRETCH = math.log(1.25)

Loss = Callable[[Tensor], Tensor]
"""A scalar of a matrix or of some parameters, with its gradient."""


@dataclass(frozen=True)
class LinearStage:
    """Finds a rigid, similarity or affine residual by quasi-Newton steps, coarse to fine.

    BFGS on parameters scaled so that a unit moves the image by about a
    millimetre; a level ends when the loss changes by less than the tolerance, relatively.

    Args:
        kind: ``rigid``, ``similarity`` or ``affine``.
        metric: the images' loss.
        factors: levels, in multiples of the finest spacing, coarse to fine.
        iterations: at most this many on each level.
        radius_vox: half the window of the local correlation, in voxels of the level.
        tolerance: see above.
        restarts: how often the last level but one is repeated from a start perturbed by half a
            voxel; the least loss counts. A histogram's loss has small local minima.
        finest_spacing_mm: where the last level is coarser, finer ones follow as far as the
            images go.
    """

    kind: LinearKind
    metric: MetricName = "lncc"
    factors: tuple[float, ...] = (8, 4, 2)
    iterations: int = 50
    radius_vox: float = 2.0
    tolerance: float = 1e-6
    finest_spacing_mm: float = math.inf
    restarts: int = 0

    @property
    def name(self) -> str:
        return self.kind

    def __call__(self, pair: Pair, current: Transform, progress: Progress) -> Transform:
        make = LINEAR_KINDS[self.kind]
        grid = pair.fixed.grid
        d, centre = grid.ndim, grid.centre_mm
        start = make.identity_parameters(d)
        radius_mm = 0.25 * sum(grid.size_mm) / d
        scale = torch.cat([torch.full((len(start) - d,), 1 / radius_mm), torch.ones(d)]).double()

        def residual(steps: Tensor) -> Linear:
            return make(start + scale * steps, centre)

        def bent(matrix: Tensor) -> Tensor:
            return (
                stretch_penalty(before @ matrix) if self.kind != "rigid" else matrix.new_zeros(())
            )

        before = current.matrix if isinstance(current, Linear) else torch.eye(d + 1).to(start)
        landmarks = pair.landmarks
        steps, levels = torch.zeros_like(start), self.levels(pair)
        reports = LevelProgress(self.name, levels, progress)
        for number, spacing in enumerate(level.spacing_mm for level in levels):
            by_matrix = self._loss_by_matrix(pair, current, spacing, residual(steps).matrix)

            def loss_of(steps: Tensor, by_matrix: Loss = by_matrix) -> Tensor:
                found = residual(steps)
                loss = by_matrix(found.matrix) + bent(found.matrix)
                return loss if landmarks is None else loss + landmarks(found.then(current))

            found = self._minimised(loss_of, steps, 0.5 * spacing, reports.at(number))
            if number == self._restarted(len(levels)):
                found = self._looked_around(loss_of, found, spacing)
            totals = (residual(x).then(current) for x in (steps, found))
            if self.kind == "rigid" or _in_sight(pair, spacing, *totals):
                steps = found
        return residual(steps).then(current)

    def _looked_around(self, loss_of: Loss, found: Tensor, spacing_mm: float) -> Tensor:
        """The best of what is found from here and from aside."""
        half = 0.5 * spacing_mm
        best, least = found, float(loss_of(found)) if self.restarts else 0.0
        for number in range(self.restarts):
            # Rows of a Hadamard matrix: no two looks go the same way.
            signs = [(-1.0) ** (number + (number & k).bit_count()) for k in range(len(found))]
            aside = found + half * torch.tensor(signs, dtype=found.dtype)
            other = self._minimised(loss_of, aside, half, lambda *_: None, _ROUGH)
            loss = float(loss_of(other))
            if loss < least:
                best, least = other, loss
        return best

    def levels(self, pair: Pair) -> list[Level]:
        """The resolution levels for this pair, coarse to fine."""
        spacings = self.spacings_mm(pair)
        if self.metric == "mind":  # each once more, with descriptors along the axes as found
            spacings = [spacing for spacing in spacings for _ in range(2)]
        voxels = [pair.fixed.grid.coarsened(spacing).num_voxels for spacing in spacings]
        evaluations, again = min(self.iterations, _EVALUATIONS), self._restarted(len(spacings))
        repeats = [1 + (self.restarts if number == again else 0) for number in range(len(spacings))]
        return [
            Level(spacing, count, evaluations, times)
            for spacing, count, times in zip(spacings, voxels, repeats, strict=True)
        ]

    @staticmethod
    def _restarted(count: int) -> int:
        """Number of the level with restarts: the last but one."""
        return max(0, count - 2)

    def spacings_mm(self, pair: Pair) -> list[float]:
        """The levels' spacings."""
        spacings = pair.level_spacings_mm(self.factors)
        while spacings[-1] > max(self.finest_spacing_mm, pair.finest_mm) * (1 + 1e-6):
            spacings.append(max(pair.finest_mm, spacings[-1] / 2))
        return spacings

    def _loss_by_matrix(
        self, pair: Pair, current: Transform, spacing_mm: float, near: Tensor
    ) -> Loss:
        """The loss on a level as a function of the residual's matrix, which is near a known one."""
        fixed, moving = pair.fixed.at(spacing_mm), pair.moving.at(spacing_mm)
        if isinstance(current, Linear):
            from_residual = moving.grid.index_from_world @ current.matrix
        else:
            # What it makes of the moving scan stands in for that: then a matrix is all.
            margin_mm = 0.25 * max(pair.fixed.grid.size_mm)
            moving = moving.through(current, fixed.grid.padded(margin_mm))
            from_residual = moving.grid.index_from_world
        to_residual = fixed.grid.world_from_index
        whole = ImageLoss(fixed, moving, self.metric, self.radius_vox)
        dissimilarity = whole.near(from_residual @ near @ to_residual)
        return lambda matrix: dissimilarity(from_residual @ matrix @ to_residual)

    def _minimised(
        self,
        loss_of: Loss,
        start: Tensor,
        first_step_mm: float,
        note: Callable[[int, float], None],
        tolerance: float | None = None,
    ) -> Tensor:
        """The steps of least loss; the first trial moves about ``first_step_mm``."""
        count = itertools.count()

        def objective(x: Vector) -> tuple[float, Vector]:
            steps = torch.from_numpy(x).requires_grad_()
            loss = loss_of(steps)
            (slope,) = torch.autograd.grad(loss, steps)
            value = float(loss.detach())
            note(next(count), value)
            return value, slope.numpy()

        limits = first_step_mm, self.iterations, tolerance or self.tolerance
        return torch.from_numpy(minimise(objective, start.numpy(), *limits))


def stretch_penalty(matrix: Tensor) -> Tensor:
    """0 for what bodies do, and steep beyond: a transform that shrinks an image to a point, or
    pulls it to a thread, can find all of it alike.

    Args:
        matrix: ``(d + 1, d + 1)``, homogeneous.

    Returns:
        The sum over the main directions of the squared logarithm of the stretch, as far as that is
        over 1.25 either way; a scalar, differentiable.
    """
    stretches = torch.linalg.svdvals(matrix[:-1, :-1])
    beyond = stretches.log().abs() - _FREE_STRETCH
    return beyond.clamp(min=0).square().sum()


def _in_sight(pair: Pair, spacing_mm: float, before: Transform, after: Transform) -> bool:
    """Whether a level kept three quarters of the overlap that it began with.

    Else it gained by pushing out of the moving image what does not match: images of unlike contrast
    tempt a stage that may scale.
    """
    grid = pair.fixed.at(spacing_mm).grid
    return fov_overlap_fraction(pair.moving.grid, after, grid) >= 0.75 * fov_overlap_fraction(
        pair.moving.grid, before, grid
    )
