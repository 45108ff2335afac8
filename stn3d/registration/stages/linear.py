"""Rigid, similarity and affine residuals by quasi-Newton steps."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d.choices import AUTOMATIC, LinearKind, MetricName, check_choice, check_known
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.registration.stages.base import (
    Level,
    LevelProgress,
    OptimiserStage,
    Progress,
    coarser_factors,
    loss_arrays,
    pyramid_floats,
)
from stn3d.registration.stages.equality import agree_already
from stn3d.registration.stages.quasi_newton import Vector, minimise
from stn3d.registration.stages.residual import Loss, ResidualProblem, keeps_overlap
from stn3d.registration.validation import check_fields
from stn3d.transforms import Transform

_RESTART_TOLERANCE = 1e-5  # a restart seeks a lower minimum, not its exact position
_EVALUATIONS = 20  # of the loss on a level, about as many as most levels take
_NO_FINER_MM = 1e6  # coarser than any level, and unlike infinity a number in JSON
_FINEST_UNITS = 2.0  # length units; finer levels do not improve a linear transform of a head
_ARRAYS = 5  # of a level: a zero displacement, the warped image and its coverage


@dataclass(frozen=True)
class LinearStage(OptimiserStage):
    """Estimates a rigid, similarity or affine residual by quasi-Newton steps, coarse to fine.

    BFGS on parameters that are scaled so that a unit step moves the image by about a millimetre. A
    level ends when the relative change of the loss is below the tolerance.

    Args:
        kind: ``rigid``, ``similarity`` or ``affine``.
        metric: Metric of the images.
        factors: Levels in multiples of the finest spacing, coarse to fine.
        iterations: Maximum number of iterations on each level.
        radius_vox: Half the edge of the metric's window, in voxels of the level.
        tolerance: Relative convergence tolerance.
        finest_spacing_mm: Where the last level is coarser, finer ones follow down to this spacing
            or the finest one of the images. None for 2 length units of the pair.
        restarts: Number of restarts of the last level but one, each from parameters perturbed by
            half a voxel; the lowest loss is kept. A histogram's loss has small local minima.
        in_units: See `Pair.level_step_mm`; set for metrics that need many voxels.

    Raises:
        InputError: A value does not fit.
    """

    kind: LinearKind
    metric: MetricName = AUTOMATIC.same
    factors: tuple[float, ...] = (8, 4, 2)
    iterations: int = 50
    radius_vox: float = 2.0
    tolerance: float = 1e-6
    finest_spacing_mm: float | None = math.inf
    restarts: int = 0
    in_units: bool = False

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, LinearKind)
        check_known("metric", self.metric, tuple(METRICS))
        check_fields(self, "linear.", zero_allowed=["restarts"])

    @property
    def name(self) -> str:
        return self.kind

    def estimate(self, pair: Pair, current: Transform, progress: Progress) -> Transform:
        """The current transform preceded by a linear residual."""
        if agree_already(pair, current, self.spacings_mm(pair)):
            return current
        problem, levels = self._problem(pair, current), self.levels(pair)
        reports, steps = LevelProgress(self.name, levels, progress), problem.no_steps
        for number, level in enumerate(levels):
            spacing = level.spacing_mm
            loss_of = problem.loss_on(spacing, steps)
            found = self._minimised(loss_of, steps, 0.5 * spacing, reports.at(number))
            if number == self._restarted(len(levels)):
                found = self._restart(loss_of, found, spacing)
            totals = (problem.total(x) for x in (steps, found))
            if self.kind == "rigid" or keeps_overlap(pair, spacing, *totals):
                steps = found
        return problem.total(steps)

    def only_improves(self, pair: Pair) -> bool:
        """Whether there is a single level, whose loss is minimised."""
        return len(self.levels(pair)) == 1

    def loss(self, pair: Pair, transform: Transform) -> float:
        """The image loss on the finest level, with landmarks and the penalty of extreme scales."""
        problem = self._problem(pair, transform)
        steps = problem.no_steps
        return float(problem.loss_on(self.spacings_mm(pair)[-1], steps)(steps))

    def _problem(self, pair: Pair, current: Transform) -> ResidualProblem:
        return ResidualProblem(self.kind, pair, current, METRICS[self.metric], self.radius_vox)

    def levels(self, pair: Pair) -> list[Level]:
        """The resolution levels for this pair, coarse to fine."""
        spacings = self.spacings_mm(pair)
        if METRICS[self.metric].depends_on_axes:  # again, prepared along the axes that were found
            spacings = [spacing for spacing in spacings for _ in range(2)]
        voxels = [pair.fixed.grid.coarsened(spacing).num_voxels for spacing in spacings]
        evaluations, again = min(self.iterations, _EVALUATIONS), self._restarted(len(spacings))
        repeats = [1 + (self.restarts if number == again else 0) for number in range(len(spacings))]
        return [
            Level(spacing, count, evaluations, times)
            for spacing, count, times in zip(spacings, voxels, repeats, strict=True)
        ]

    def spacings_mm(self, pair: Pair) -> list[float]:
        """Spacings of the image pyramid, coarse to fine."""
        spacings = pair.level_spacings_mm(self.factors, self.in_units)
        finest_mm = self.finest_spacing_mm
        if finest_mm is None:
            finest_mm = _FINEST_UNITS * pair.unit_mm
        while spacings[-1] > max(finest_mm, pair.finest_mm) * (1 + 1e-6):
            spacings.append(max(pair.finest_mm, spacings[-1] / 2))
        return spacings

    def memory_floats(self, pair: Pair, channels: int) -> int:
        """Highest number of float32 values that the stage holds besides both images.

        Args:
            pair: The images; only their grids are used.
            channels: Number of channels of either image.
        """
        spacings = self.spacings_mm(pair)
        voxels = pair.fixed.grid.coarsened(spacings[-1]).num_voxels
        # The weight has a derivative too, so the loss takes twice its arrays.
        arrays = _ARRAYS + 2 * loss_arrays(METRICS[self.metric], channels)
        return pyramid_floats(pair, spacings, channels) + arrays * voxels

    def transform_floats(self, pair: Pair) -> int:
        """Number of float32 values of the stage's transform: negligible."""
        return 0

    @staticmethod
    def _restarted(count: int) -> int:
        """Number of the level with restarts: the last but one."""
        return max(0, count - 2)

    def _restart(self, loss_of: Loss, found: Tensor, spacing_mm: float) -> Tensor:
        """The best of the parameters found and those found from perturbed ones."""
        half = 0.5 * spacing_mm
        best, least = found, float(loss_of(found)) if self.restarts else 0.0
        for number in range(self.restarts):
            # Rows of a Hadamard matrix: no two restarts have the same direction.
            signs = [(-1.0) ** (number + (number & k).bit_count()) for k in range(len(found))]
            perturbed = found + half * torch.tensor(signs, dtype=found.dtype)
            other = self._minimised(loss_of, perturbed, half, lambda *_: None, _RESTART_TOLERANCE)
            loss = float(loss_of(other))
            if loss < least:
                best, least = other, loss
        return best

    def _minimised(
        self,
        loss_of: Loss,
        start: Tensor,
        first_step_mm: float,
        note: Callable[[int, float], None],
        tolerance: float | None = None,
    ) -> Tensor:
        """The parameters of lowest loss; the first trial step moves about ``first_step_mm``."""
        count = itertools.count()

        def objective(x: Vector) -> tuple[float, Vector]:
            steps = torch.from_numpy(x).requires_grad_()
            loss = loss_of(steps)
            (gradient,) = torch.autograd.grad(loss, steps)
            value = float(loss.detach())
            note(next(count), value)
            return value, gradient.numpy()

        limits = first_step_mm, self.iterations, tolerance or self.tolerance
        return torch.from_numpy(minimise(objective, start.numpy(), *limits))


@dataclass(frozen=True)
class LinearSettings:
    """Settings of the linear stages of a cascade; see `LinearStage`.

    Args:
        factors: Levels in multiples of the finest spacing, where another stage follows.
        final_factors: Levels where the linear transform is the result.
        iterations: Maximum number of iterations on each level.
        radius_vox: Half the edge of the metric's window, in voxels of the level.
        tolerance: Relative convergence tolerance.
        finest_spacing_mm: Where the linear transform is the result and the last level is coarser,
            finer ones follow down to this spacing or the finest one of the images. None for 2
            length units of the pair, which are 2 mm for a head, see `stn3d.length_unit`.
        restarts: Number of restarts where the linear transform is the result.

    Raises:
        InputError: A value does not fit.
    """

    factors: tuple[float, ...] = (8, 4)
    final_factors: tuple[float, ...] = (8, 4, 2)
    iterations: int = 50
    radius_vox: float = 2.0
    tolerance: float = 1e-6
    finest_spacing_mm: float | None = None
    restarts: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "linear.", zero_allowed=["restarts"])

    def stages(
        self, kinds: Sequence[LinearKind], metric: MetricName, final: bool
    ) -> list[LinearStage]:
        """The linear stages of a cascade.

        Args:
            kinds: Kinds of transform in order.
            metric: Metric of the images.
            final: Whether the last one is the result; only then are its finer levels worth the
                time. All others but the last have one level.
        """
        common: dict[str, Any] = {
            "metric": metric,
            "iterations": self.iterations,
            "radius_vox": self.radius_vox,
            "tolerance": self.tolerance,
            "in_units": METRICS[metric].needs_many_voxels,
        }
        stages = [LinearStage(kind, factors=self.factors[:1], **common) for kind in kinds[:-1]]
        if not final:
            return [*stages, LinearStage(kinds[-1], factors=self.factors, **common)]
        common |= {"finest_spacing_mm": self.finest_spacing_mm, "restarts": self.restarts}
        return [*stages, LinearStage(kinds[-1], factors=self.final_factors, **common)]

    def coarser(self) -> Iterator[LinearSettings]:
        """These settings with ever coarser finest levels, by factors of sqrt 2, down to one level.

        The first one is as fine as these settings but has no finer levels that follow.
        """
        for kept in coarser_factors(self.final_factors, first=0):
            yield dataclasses.replace(self, final_factors=kept, finest_spacing_mm=_NO_FINER_MM)
