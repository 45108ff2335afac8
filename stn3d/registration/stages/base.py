"""The interface of a stage of the cascade, its progress and its need of memory."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stn3d.losses.similarity import ImageMetric
from stn3d.preprocessing.pair import Pair
from stn3d.transforms import Transform

logger = logging.getLogger("stn3d.registration")

_CHANNEL_ARRAYS = 3  # of each further contrast: image, warped image, derivative


@dataclass(frozen=True)
class ProgressEvent:
    """How far a registration is.

    Args:
        step: ``read``, ``prepare``, ``initialise``; the name of a stage (``rigid``, ``similarity``,
            ``affine``, ``network``, ``discrete``, ``deformable``); ``large_motion``, ``inverse``,
            ``metrics``, ``warp``, ``quality_check``, ``save``.
        fraction: Fraction of the expected work that is done, 0 to 1, never decreasing: of the stage
            where a stage reports it, of the whole registration where `stn3d.register` passes it on.
        stage: Number of the stage in the cascade, from 1; 0 outside the cascade.
        stages: Number of stages in the cascade; 0 outside the cascade.
        level: Number of the resolution level in the stage, from 1; 0 where a step has no levels.
        levels: Number of resolution levels in the stage.
        spacing_mm: Spacing of the level; None where a step has no levels.
        iteration: Number of the iteration (in linear stages, of the loss evaluation) on this level,
            from 1; 0 where a step does not iterate.
        iterations: Expected number of iterations on this level, never below ``iteration``.
        loss: Current loss; None where a step has none.
    """

    step: str
    fraction: float
    stage: int = 0
    stages: int = 0
    level: int = 0
    levels: int = 0
    spacing_mm: float | None = None
    iteration: int = 0
    iterations: int = 0
    loss: float | None = None


Progress = Callable[[ProgressEvent], None]
"""Called at every step and at every iteration of a stage."""


@dataclass(frozen=True)
class Level:
    """One resolution level of a stage, and its expected work.

    Args:
        spacing_mm: Spacing of the level.
        voxels: Number of voxels that an iteration visits.
        iterations: Expected number of iterations.
        repeats: Number of times the level is solved: once, and once for each restart.
    """

    spacing_mm: float
    voxels: int
    iterations: int
    repeats: int = 1

    @property
    def work(self) -> float:
        """Expected voxel visits."""
        return float(self.voxels) * self.iterations * self.repeats


@dataclass(frozen=True)
class LevelProgress:
    """Reports the iterations of one stage.

    Args:
        step: Name of the stage.
        levels: Levels of the stage, coarse to fine.
        progress: Receives the events.
    """

    step: str
    levels: Sequence[Level]
    progress: Progress

    def at(self, number: int) -> Callable[[int, float], None]:
        """The callback of a level (numbered from 0), given each iteration (from 0) and its loss."""
        level = self.levels[number]
        before = sum(one.work for one in self.levels[:number])
        total = sum(one.work for one in self.levels) or 1.0

        def note(iteration: int, loss: float) -> None:
            expected = max(level.iterations, iteration + 1)
            done = before + level.work * (iteration + 1) / expected
            event = ProgressEvent(
                self.step,
                done / total,
                level=number + 1,
                levels=len(self.levels),
                spacing_mm=level.spacing_mm,
                iteration=iteration + 1,
                iterations=expected,
                loss=loss,
            )
            self.progress(event)

        return note


class Stage(ABC):
    """Estimates the transform of a pair, given the current transform.

    No stage ends with a higher loss than it began with, by its own objective on its finest level:
    a coarse level may lead away from a start that is better on the finest one, and a network may be
    wrong. The current transform is returned then.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the stage in the progress and in metrics.json."""

    @abstractmethod
    def levels(self, pair: Pair) -> Sequence[Level]:
        """The resolution levels for this pair, coarse to fine."""

    @abstractmethod
    def estimate(self, pair: Pair, current: Transform, progress: Progress) -> Transform:
        """The current transform preceded by this stage's residual; it may be worse."""

    @abstractmethod
    def loss(self, pair: Pair, transform: Transform) -> float:
        """The objective of this stage on its finest level; lower is better.

        Args:
            pair: The prepared images.
            transform: Fixed points to moving points.
        """

    def only_improves(self, pair: Pair) -> bool:
        """Whether an estimate is never worse, so that it need not be compared."""
        return False

    def __call__(self, pair: Pair, current: Transform, progress: Progress) -> Transform:
        """The estimate, or the current transform if its loss is lower."""
        found = self.estimate(pair, current, progress)
        if found is current or self.only_improves(pair):
            return found
        before, after = self.loss(pair, current), self.loss(pair, found)
        if after > before or math.isnan(after):
            self.rejected(before, after)
            return current
        return found

    def rejected(self, before: float, after: float) -> None:
        """Called with both losses when an estimate is worse than the current transform."""
        logger.debug(f"{self.name}: the estimate raises the loss from {before:g} to {after:g}")


class OptimiserStage(Stage):
    """A stage that optimises the transform of the pair itself, with a known need of memory."""

    @abstractmethod
    def spacings_mm(self, pair: Pair) -> list[float]:
        """Spacings of the image pyramid, coarse to fine."""

    @abstractmethod
    def memory_floats(self, pair: Pair, channels: int) -> int:
        """Highest number of float32 values that the stage holds besides both images.

        Args:
            pair: The images; only their grids are used.
            channels: Number of channels of either image.
        """

    @abstractmethod
    def transform_floats(self, pair: Pair) -> int:
        """Number of float32 values of the stage's transform."""


def pyramid_floats(pair: Pair, spacings_mm: Sequence[float], channels: int) -> int:
    """Number of float32 values of the image pyramids of a pair, without the images themselves.

    Args:
        pair: The images; only their grids are used.
        spacings_mm: Spacings of the levels.
        channels: Number of channels of either image.
    """
    return channels * sum(
        image.grid.coarsened(spacing).num_voxels
        for spacing in spacings_mm
        for image in (pair.fixed, pair.moving)
        if image.grid.coarsened(spacing).shape != image.grid.shape
    )


def loss_arrays(metric: ImageMetric, channels: int) -> int:
    """Number of arrays of the size of a level that the loss and its gradient need.

    Args:
        metric: The metric.
        channels: Number of channels of either image.
    """
    return channels * metric.loss_arrays + _CHANNEL_ARRAYS * (channels - 1)


def coarser_factors(factors: Sequence[float], first: int) -> Iterator[tuple[float, ...]]:
    """Levels whose finest one is coarser and coarser by factors of sqrt 2, until one is left.

    Args:
        factors: Levels in multiples of the finest spacing, coarse to fine.
        first: Number of factors of sqrt 2 of the first result.
    """
    steps = math.floor(2 * math.log2(max(factors) / factors[-1]) + 1e-9)
    for k in range(first, steps + 1):
        finest = factors[-1] * 2 ** (k / 2)
        yield (*(f for f in factors if f > finest * (1 + 1e-9)), finest)
