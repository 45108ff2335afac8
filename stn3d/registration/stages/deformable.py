"""Dense residuals by greedy composition of small smooth steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.losses.similarity import MetricName, window_radii
from stn3d.preprocessing.pair import Pair, PreparedImage, bounds, image_loss, textured
from stn3d.registration.stages.base import Level, LevelProgress, Progress
from stn3d.registration.stages.landmark_force import LandmarkForce
from stn3d.transforms import Affine, DisplacementField, Linear, Transform, split_linear
from stn3d.transforms.dense import in_mm, in_voxels
from stn3d.warp import resample_image


@dataclass(frozen=True)
class DeformableStage:
    """Finds a diffeomorphic displacement field, coarse to fine.

    Greedy composition of small smooth steps (Christensen et al. 1996, doi:10.1109/83.536892;
    Avants et al. 2008, doi:10.1016/j.media.2007.06.004): the loss's gradient is smoothed, scaled to
    a largest step well below a voxel and composed with the field so far, which is then smoothed a
    little. Each such step is invertible, and so is their composition. The field vanishes on the
    outermost voxels of its margin; a level ends with the best field that it saw.

    Args:
        metric: the images' loss.
        factors: levels, in multiples of the finest spacing, coarse to fine.
        iterations: at most this many on each level.
        radius_vox: half the window of the local correlation, in voxels of the level.
        step_vox: how far the force moves the voxel at the step quantile in one iteration.
        step_norm_quantile: share of the voxels with any force that move less than ``step_vox``.
        max_step_vox: no voxel moves farther in one iteration.
        momentum: share of an iteration's move that goes on in the next.
        update_sigma_vox: Gaussian smoothing of each step.
        field_sigma_vox: Gaussian smoothing of the whole field at each step.
        divergence_weight: how much of the gradient of its divergence the field gains at each step:
            tissue changes its shape more easily than its volume. At most about 1/6.
        tolerance: a level ends when the mean loss of ``window`` iterations is less than this share
            below that of the ``window`` before.
        window: see tolerance.
        margin_mm: how far the field reaches around the fixed image.
    """

    metric: MetricName = "lncc"
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
    margin_mm: float = 8.0

    @property
    def name(self) -> str:
        return "deformable"

    def converged(self, losses: list[float]) -> bool:
        """Whether the latest losses stand still."""
        n = self.window
        if len(losses) < 2 * n:
            return False
        before, now = sum(losses[-2 * n : -n]) / n, sum(losses[-n:]) / n
        return before - now < self.tolerance * abs(before)

    def taper(self, grid: Grid) -> list[Tensor]:
        """Weights of moves along each axis: 0 on the outermost voxels, 1 from the margin's inner
        end on."""
        weights = []
        for n, spacing_mm in zip(grid.shape, grid.spacing_mm, strict=True):
            i = torch.arange(n)
            inner = torch.minimum(i, n - 1 - i) / (self.margin_mm / spacing_mm)
            weights.append(inner.clamp(max=1) if n > 1 else torch.ones(1))
        return weights

    def __call__(self, pair: Pair, current: Transform, progress: Progress) -> Transform:
        linear, field = _split(current, pair.fixed.grid)
        levels = self.levels(pair)
        reports = LevelProgress(self.name, levels, progress)
        for number, level in enumerate(levels):
            solver = _DeformableLevel.of(self, pair, linear, level.spacing_mm)
            field = solver.run(field, level.iterations, reports.at(number))
        assert field is not None
        return field.then(linear)

    def levels(self, pair: Pair) -> list[Level]:
        """The resolution levels for this pair, coarse to fine."""
        spacings = pair.level_spacings_mm(self.factors)
        counts = self.iterations[-len(spacings) :]
        return [
            Level(spacing, pair.fixed.grid.coarsened(spacing).num_voxels, count)
            for spacing, count in zip(spacings, counts, strict=True)
        ]


def _split(transform: Transform, grid: Grid) -> tuple[Linear, DisplacementField | None]:
    """A transform as a displacement of a grid's points, None for none, and then a linear one."""
    before, linear = split_linear(transform)
    linear = linear or Affine.identity(grid.ndim)
    if before is None:
        return linear, None
    back = linear.inverse()
    moves = [
        (back(transform(points)) - points).float()
        for points in (grid.points_mm(rows) for rows in grid.slabs())
    ]
    return linear, DisplacementField(torch.cat(moves).movedim(-1, 0)[None], grid)


@dataclass(frozen=True, eq=False)
class _DeformableLevel:
    """One level of a dense stage.

    The field lives on the part of the fixed level's grid that matters and a margin around it, as
    the fixed scan here does. Inside this class it is kept in voxels along the grid's own axes,
    ``(1, d, *grid.shape)``; `run` converts.
    """

    stage: DeformableStage
    fixed: PreparedImage
    moving: PreparedImage
    moving_from_fixed_index: Tensor
    windows: kernels.Region
    """The centres of the windows that count."""
    reached: kernels.Region
    """The voxels in these windows: elsewhere there is no force."""
    pull: LandmarkForce | None = None
    """Of landmarks."""

    @classmethod
    def of(
        cls, stage: DeformableStage, pair: Pair, linear: Linear, spacing: float
    ) -> _DeformableLevel:
        fixed, moving = pair.fixed.at(spacing), pair.moving.at(spacing)
        if stage.metric == "mind":
            fixed = fixed.described
        d, spacings = fixed.grid.ndim, fixed.grid.spacing_mm
        radii, seen = [0] * d, torch.ones(fixed.grid.shape, dtype=torch.bool)
        if stage.metric == "lncc":
            radii = window_radii(stage.radius_vox * min(spacings), spacings)
            if not fixed.labelled and pair.landmarks is None:  # they may lie where all is flat
                seen = textured(fixed, radii).cpu()
        start, stop = bounds(seen)
        reach = [r + math.ceil(stage.margin_mm / s) for r, s in zip(radii, spacings, strict=True)]
        low = [a - r for a, r in zip(start, reach, strict=True)]
        high = [b + r for b, r in zip(stop, reach, strict=True)]
        if (
            any(
                a < r or b + r > n
                for a, b, r, n in zip(start, stop, radii, fixed.grid.shape, strict=True)
            )
            or stage.metric != "lncc"
        ):
            fixed = fixed.masked()  # the margin is part of some windows and must not count
        part = fixed.framed(low, high)
        inner = torch.zeros(part.grid.shape, dtype=torch.bool)
        inner[tuple(slice(r, n - r) for r, n in zip(reach, part.grid.shape, strict=True))] = seen[
            tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        ]
        windows = kernels.Region.of(inner)
        pull = None
        if pair.landmarks is not None:
            pull = LandmarkForce.of(pair.landmarks, part.grid, linear, stage.taper(part.grid))
        if stage.metric == "mind":  # along the fixed scan's axes, as the fixed scan's are
            moving, linear = moving.described_on(part.grid, linear), Affine.identity(d)
        matrix = moving.grid.index_from_world @ linear.matrix @ part.grid.world_from_index
        return cls(stage, part, moving, matrix, windows, windows.grown(radii), pull)

    def run(
        self,
        start: DisplacementField | None,
        iterations: int,
        note: Callable[[int, float], None],
    ) -> DisplacementField:
        """Improve a field of a coarser level; ends early when converged."""
        u = self._improved(self._voxels_from_mm(start), iterations, note)
        return DisplacementField(in_mm(u, self.fixed.grid), self.fixed.grid)

    def _improved(self, u: Tensor, iterations: int, note: Callable[[int, float], None]) -> Tensor:
        stage, grid, d = self.stage, self.fixed.grid, self.fixed.grid.ndim
        update, smooth = [stage.update_sigma_vox] * d, [stage.field_sigma_vox] * d
        reach = math.ceil(3 * stage.update_sigma_vox)
        moving = self.reached.grown([reach] * d).without_faces()
        taper = stage.taper(grid)
        # Outside of what moves all fields keep the same vectors.
        best, fields, velocity = u, [u, u.clone(), u.clone()], torch.zeros_like(u)
        out = kernels.buffers(self.moving.image, u), torch.zeros_like(u)
        losses: list[float] = []
        for iteration in range(iterations):
            loss, force = self._force(u, *out)
            loss += 0.0 if self.pull is None else self.pull.loss(u)
            best = u if loss <= min(losses, default=loss) else best
            losses.append(loss)
            note(iteration, loss)
            if stage.converged(losses):
                break
            one, *others = [f for f in fields if f is not best and f is not u]
            other = others[0] if others else u
            step = kernels.gaussian_smooth(force, update, moving, one)
            size = kernels.apply_boundary_window(step, taper, moving, stage.step_norm_quantile)
            if size == 0 and self.pull is None:
                break
            scale = stage.step_vox / (size or 1.0)
            if self.pull is not None:
                self.pull.add_to(step, u, 1 / scale)
            options = scale, stage.max_step_vox, moving, one
            kernels.take_step(step, u, *options, velocity, stage.momentum)
            kernels.diffuse_divergence(one, self._stiffness(), moving, other)
            u = kernels.gaussian_smooth(other, smooth, moving, one)
        # Where the last one is not the best, steps of this length no longer help.
        return best if losses and losses[-1] > min(losses) else u

    def _stiffness(self) -> list[float]:
        """The divergence's weight along each axis, for vectors in voxels."""
        spacings = self.fixed.grid.spacing_mm
        return [self.stage.divergence_weight * (min(spacings) / s) ** 2 for s in spacings]

    def _voxels_from_mm(self, field: DisplacementField | None) -> Tensor:
        """A field's vectors at this grid's voxels, in voxels, with 0 at its faces; zeros where
        there is none yet."""
        grid = self.fixed.grid
        if field is None:
            return torch.zeros(1, grid.ndim, *grid.shape).to(self.fixed.image)
        u_mm = resample_image(field.displacement_mm.to(self.fixed.image), field.grid, grid)
        u = in_voxels(u_mm, grid).contiguous()
        for axis, n in enumerate(grid.shape, start=2):
            if n > 1:
                u.select(axis, 0).zero_()
                u.select(axis, -1).zero_()
        return u

    def _force(self, u: Tensor, out: kernels.Buffers, force: Tensor) -> tuple[float, Tensor]:
        """The loss and the direction of its steepest descent in mm, in voxels; 0 out of reach.

        By the steps that are composed with the field, so the moved image's own gradient counts, not
        the moving image's. ``out`` and ``force`` are scratch of which all is 0 out of reach.
        """
        stage, grid = self.stage, self.fixed.grid
        moving, matrix = self.moving.image, self.moving_from_fixed_index
        around = self.reached.grown([1] * grid.ndim)
        moved, inside = kernels.warp(moving, matrix, u, around, out)
        moved = moved.detach().requires_grad_()
        loss = image_loss(
            self.fixed,
            self.moving,
            moved,
            self._weight(u, inside),
            stage.metric,
            stage.radius_vox,
            self.windows,
        )
        (by_moved,) = torch.autograd.grad(loss, moved)
        kernels.force(moved.detach(), by_moved, self.reached.without_faces(), force)
        for axis, spacing in enumerate(grid.spacing_mm):
            # A gradient by voxels holds the spacing once, a step in voxels its inverse once more.
            if spacing != grid.spacing_mm[0]:
                force[:, axis] *= (grid.spacing_mm[0] / spacing) ** 2
        return float(loss.detach()), force

    def _weight(self, u: Tensor, inside: Tensor | None) -> Tensor | None:
        """What counts; a dense force must not gain by changing it, so it carries no gradient."""
        weights = [w for w in (inside, self.fixed.mask) if w is not None]
        if self.moving.mask is not None:
            matrix = self.moving_from_fixed_index
            weights.append(kernels.warp(self.moving.mask, matrix, u, self.reached).moved)
        return math.prod(weights[1:], start=weights[0]) if weights else None
