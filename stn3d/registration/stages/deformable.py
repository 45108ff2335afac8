"""Displacement fields by greedy composition of small smooth steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.choices import AUTOMATIC, MetricName, check_known
from stn3d.errors import InputError
from stn3d.losses.image_loss import image_loss
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing import noise, resolution
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.stages.base import (
    Level,
    LevelProgress,
    OptimiserStage,
    Progress,
    coarser_factors,
    loss_arrays,
    pyramid_floats,
)
from stn3d.registration.stages.dense_start import field_and_linear, voxels_from_mm
from stn3d.registration.stages.equality import agree_already
from stn3d.registration.stages.landmark_force import LandmarkForce
from stn3d.registration.stages.window import LevelWindow, boundary_weights, margins_vox
from stn3d.registration.validation import check_fields
from stn3d.transforms import Affine, DisplacementField, Linear, Transform, rounded
from stn3d.transforms.dense import in_mm

# Of a level: image, mask; 3 fields, velocity, force; warped image, weight; coarser field.
_ARRAYS = 22
_MARGIN_UNITS = 8.0  # length units that the field extends around the fixed image


@dataclass(frozen=True)
class DeformableStage(OptimiserStage):
    """Estimates a diffeomorphic displacement field, coarse to fine.

    Greedy composition of small smooth steps (Christensen et al. 1996, doi:10.1109/83.536892;
    Avants et al. 2008, doi:10.1016/j.media.2007.06.004): the gradient of the loss is smoothed,
    scaled to a step well below a voxel and composed with the current field, which is then smoothed
    a little. Each such step is invertible, and so is their composition. The field vanishes at the
    outermost voxels of its margin. Each level returns the best field that it found.

    Args:
        metric: Metric of the images.
        factors: Levels in multiples of the finest spacing, coarse to fine.
        iterations: Maximum number of iterations on each level.
        radius_vox: Half the edge of the metric's window, in voxels of the level.
        step_vox: Length of an iteration's step at the quantile ``step_norm_quantile``, in voxels.
        step_norm_quantile: Fraction of the voxels with any force whose step is shorter than
            ``step_vox``.
        max_step_vox: Maximum length of a voxel's step in one iteration.
        momentum: Fraction of an iteration's step that is added to the next one.
        update_sigma_vox: Gaussian smoothing of each step.
        field_sigma_vox: Gaussian smoothing of the whole field at each step.
        divergence_weight: Weight of the gradient of the divergence that is added to the field at
            each step: tissue changes its shape more easily than its volume. At most about 1/6.
        tolerance: Relative convergence tolerance: a level ends when the mean loss of ``window``
            iterations is lower than that of the ``window`` before by less than this fraction.
        window: Number of iterations over which the loss is averaged for convergence.
        margin_mm: Distance that the field extends around the fixed image. None for 8 length units
            of the pair, which are 8 mm for a head, see `stn3d.length_unit`, and at least the reach
            of a step's smoothing.
        in_units: See `Pair.level_step_mm`; `Settings` sets it for metrics that need many voxels.

    Raises:
        InputError: A value does not fit, or there are fewer iterations than levels.
    """

    metric: MetricName = AUTOMATIC.same
    factors: tuple[float, ...] = (8, 4, 2, 1)
    iterations: tuple[int, ...] = (40, 40, 20, 8)
    radius_vox: float = 2.0
    step_vox: float = 0.5
    step_norm_quantile: float = 0.999
    max_step_vox: float = 1.0
    momentum: float = 0.35
    update_sigma_vox: float = 1.4
    field_sigma_vox: float = 0.5
    divergence_weight: float = 0.15
    tolerance: float = 1e-3
    window: int = 10
    margin_mm: float | None = None
    in_units: bool = False

    def __post_init__(self) -> None:
        check_known("deformable_metric", self.metric, tuple(METRICS))
        check_fields(self, "deformable.")
        if len(self.iterations) < len(self.factors):
            raise InputError(
                f"deformable.factors has {len(self.factors)} levels and deformable.iterations "
                f"{len(self.iterations)}; give a number of iterations for each level."
            )

    @property
    def name(self) -> str:
        return "deformable"

    def estimate(self, pair: Pair, current: Transform, progress: Progress) -> Transform:
        """The current transform with another displacement field, rounded as it is saved."""
        if agree_already(pair, current, self.spacings_mm(pair)):
            return current
        field, linear = field_and_linear(current, pair.fixed.grid)
        reports = LevelProgress(self.name, self.levels(pair), progress)
        for number, level in enumerate(reports.levels):
            solver = _LevelSolver.of(self, pair, linear, level.spacing_mm)
            field = solver.run(field, level.iterations, reports.at(number))
        assert field is not None
        return rounded(field).then(linear)

    def loss(self, pair: Pair, transform: Transform) -> float:
        """The image loss on the finest level, with that of the landmarks."""
        field, linear = field_and_linear(transform, pair.fixed.grid)
        return _LevelSolver.of(self, pair, linear, self.spacings_mm(pair)[-1]).loss(field)

    def margin_of(self, pair: Pair) -> float:
        """The margin of the field for this pair, in mm."""
        if self.margin_mm is not None:
            return self.margin_mm
        reach_vox = math.ceil(3 * self.update_sigma_vox)
        return max(_MARGIN_UNITS * pair.unit_mm, reach_vox * pair.finest_mm)

    def levels(self, pair: Pair) -> list[Level]:
        """The resolution levels for this pair, coarse to fine."""
        spacings = self.spacings_mm(pair)
        count = len(pair.level_spacings_mm(self.factors, self.in_units))
        counts = self.iterations[-count:][: len(spacings)]
        return [
            Level(spacing, resolution.level_grid(pair.fixed.grid, spacing).num_voxels, count)
            for spacing, count in zip(spacings, counts, strict=True)
        ]

    def spacings_mm(self, pair: Pair) -> list[float]:
        """Spacings of the image pyramid, coarse to fine."""
        levels_mm = pair.level_spacings_mm(self.factors, self.in_units)
        return resolution.supported_spacings_mm(pair, levels_mm)

    def coarser(self) -> Iterator[DeformableStage]:
        """This stage with ever coarser finest levels, by factors of sqrt 2, down to one level."""
        for kept in coarser_factors(self.factors, first=1):
            counts = self.iterations[-len(self.factors) :][: len(kept)]
            yield dataclasses.replace(self, factors=kept, iterations=counts)

    def memory_floats(self, pair: Pair, channels: int) -> int:
        """Highest number of float32 values that the stage holds besides both images.

        The estimate is for images without empty margins; the stage works on the part around the
        windows that contribute, and takes less where that is smaller.

        Args:
            pair: The images; only their grids are used.
            channels: Number of channels of either image.
        """
        arrays = _ARRAYS + loss_arrays(METRICS[self.metric], channels)
        spacings = self.spacings_mm(pair)
        pyramids = pyramid_floats(pair, spacings, channels)
        pyramids += resolution.extra_floats(pair, spacings, channels)
        return pyramids + arrays * self._field_voxels(pair)

    def transform_floats(self, pair: Pair) -> int:
        """Number of float32 values of the stage's displacement field."""
        return pair.fixed.grid.ndim * self._field_voxels(pair)

    def _field_voxels(self, pair: Pair) -> int:
        """Voxels of the field's finest level with its margin."""
        grid = resolution.level_grid(pair.fixed.grid, self.spacings_mm(pair)[-1])
        radii = METRICS[self.metric].window_radii(self.radius_vox, grid.spacing_mm)
        margins = margins_vox(grid, radii, self.margin_of(pair))
        return math.prod(n + 2 * k for n, k in zip(grid.shape, margins, strict=True))

    def converged(self, losses: list[float]) -> bool:
        """Whether the latest losses no longer decrease."""
        n = self.window
        if len(losses) < 2 * n:
            return False
        before, now = sum(losses[-2 * n : -n]) / n, sum(losses[-n:]) / n
        return before - now < self.tolerance * abs(before)


@dataclass(frozen=True, eq=False)
class _LevelSolver:
    """One level of a deformable stage.

    The field covers the grid of the window's fixed image. Inside this class it is kept in voxels
    along that grid's axes, ``(1, d, *grid.shape)``; `run` converts.
    """

    stage: DeformableStage
    margin_mm: float
    window: LevelWindow
    moving: PreparedImage
    moving_from_fixed_index: Tensor
    sigmas_vox: tuple[float, float]  # of the update and of the field
    landmark_force: LandmarkForce | None = None

    @classmethod
    def of(cls, stage: DeformableStage, pair: Pair, linear: Linear, spacing: float) -> _LevelSolver:
        metric = METRICS[stage.metric]
        fixed, moving = resolution.at_common_resolution(pair, linear, spacing)
        fixed = metric.prepared(fixed)
        everywhere = fixed.has_labels or pair.landmarks is not None
        margin_mm = stage.margin_of(pair)
        window = LevelWindow.of(fixed, metric, stage.radius_vox, margin_mm, everywhere)
        grid, force = window.fixed.grid, None
        if pair.landmarks is not None:
            weights = boundary_weights(grid, margin_mm)
            force = LandmarkForce.of(pair.landmarks, grid, linear, weights)
        if metric.depends_on_axes:
            moving = metric.prepared_through(moving, linear, grid)
            linear = Affine.identity(grid.ndim)
        matrix = moving.grid.index_from_world @ linear.matrix @ grid.world_from_index
        update = stage.update_sigma_vox * resolution.smoothing_factor(pair, spacing)
        field = stage.field_sigma_vox * noise.smoothing_factor(pair, spacing)
        return cls(stage, margin_mm, window, moving, matrix, (update, field), force)

    @property
    def fixed(self) -> PreparedImage:
        """The fixed image on the field's grid."""
        return self.window.fixed

    def run(
        self,
        start: DisplacementField | None,
        iterations: int,
        note: Callable[[int, float], None],
    ) -> DisplacementField:
        """Improve a field of a coarser level, until convergence at the latest.

        Args:
            start: The field; None for a field of zeros.
            iterations: Maximum number of iterations.
            note: Called with the number and the loss of each iteration.
        """
        u = self._improved(voxels_from_mm(start, self.fixed), iterations, note)
        return DisplacementField(in_mm(u, self.fixed.grid), self.fixed.grid)

    def _improved(self, u: Tensor, iterations: int, note: Callable[[int, float], None]) -> Tensor:
        stage, grid, d = self.stage, self.fixed.grid, self.fixed.grid.ndim
        update, smooth = ([sigma] * d for sigma in self.sigmas_vox)
        region = self.window.covered.grown([math.ceil(3 * update[0])] * d).without_faces()
        boundary = boundary_weights(grid, self.margin_mm)
        # Outside the region all fields keep the same vectors.
        best, fields, velocity = u, [u, u.clone(), u.clone()], torch.zeros_like(u)
        out = kernels.buffers(self.moving.image, u), torch.zeros_like(u)
        losses: list[float] = []
        for iteration in range(iterations):
            loss, force = self._force(u, *out)
            loss += self._landmark_loss(u)
            best = u if loss <= min(losses, default=loss) else best
            losses.append(loss)
            note(iteration, loss)
            if stage.converged(losses):
                break
            one, *others = [f for f in fields if f is not best and f is not u]
            other = others[0] if others else u
            step = kernels.gaussian_smooth(force, update, region, one)
            size = kernels.apply_boundary_window(step, boundary, region, stage.step_norm_quantile)
            if size == 0 and self.landmark_force is None:
                break
            scale = stage.step_vox / (size or 1.0)
            if self.landmark_force is not None:
                self.landmark_force.add_to(step, u, 1 / scale)
            options = scale, stage.max_step_vox, region, one
            kernels.take_step(step, u, *options, velocity, stage.momentum)
            kernels.diffuse_divergence(one, self._divergence_weights(), region, other)
            u = kernels.gaussian_smooth(other, smooth, region, one)
        # If the last field is not the best, steps of this length no longer help.
        return best if losses and losses[-1] > min(losses) else u

    def loss(self, field: DisplacementField | None) -> float:
        """The loss of a field, None for one of zeros, with that of the landmarks."""
        u = voxels_from_mm(field, self.fixed)
        with torch.no_grad():
            image, matrix = self.moving.image, self.moving_from_fixed_index
            out = kernels.buffers(image, u)
            moved, inside = kernels.warp(image, matrix, u, self.window.covered, out)
            return float(self._image_loss(moved, self._weight(u, inside))) + self._landmark_loss(u)

    def _image_loss(self, moved: Tensor, weight: Tensor | None) -> Tensor:
        options = METRICS[self.stage.metric], self.stage.radius_vox, self.window.centres
        return image_loss(self.fixed, self.moving, moved, weight, *options)

    def _landmark_loss(self, u: Tensor) -> float:
        return 0.0 if self.landmark_force is None else self.landmark_force.loss(u)

    def _divergence_weights(self) -> list[float]:
        """Weight of the divergence along each axis, for vectors in voxels."""
        spacings = self.fixed.grid.spacing_mm
        return [self.stage.divergence_weight * (min(spacings) / s) ** 2 for s in spacings]

    def _force(self, u: Tensor, out: kernels.Buffers, force: Tensor) -> tuple[float, Tensor]:
        """The loss and the direction of its steepest descent in mm, as vectors in voxels.

        The descent is along steps that are composed before the field, so it contains the gradient
        of the warped image, not that of the moving image.

        Args:
            u: The field.
            out: Buffers of the warped image, 0 outside the windows.
            force: Buffer of the result, 0 outside the windows.
        """
        grid, covered = self.fixed.grid, self.window.covered
        moving, matrix = self.moving.image, self.moving_from_fixed_index
        moved, inside = kernels.warp(moving, matrix, u, covered.grown([1] * grid.ndim), out)
        moved = moved.detach().requires_grad_()
        loss = self._image_loss(moved, self._weight(u, inside))
        (by_moved,) = torch.autograd.grad(loss, moved)
        kernels.force(moved.detach(), by_moved, covered.without_faces(), force)
        for axis, spacing in enumerate(grid.spacing_mm):
            # A gradient per voxel contains the spacing once, a step in voxels its inverse once.
            if spacing != grid.spacing_mm[0]:
                force[:, axis] *= (grid.spacing_mm[0] / spacing) ** 2
        return float(loss.detach()), force

    def _weight(self, u: Tensor, inside: Tensor | None) -> Tensor | None:
        """Weights of voxels, without a gradient: a field must not gain by changing them."""
        weights = [w for w in (inside, self.fixed.mask) if w is not None]
        if self.moving.mask is not None:
            matrix = self.moving_from_fixed_index
            weights.append(kernels.warp(self.moving.mask, matrix, u, self.window.covered).moved)
        return math.prod(weights[1:], start=weights[0]) if weights else None
