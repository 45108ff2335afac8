"""The linear part of the cascade: on the images, within shared content, or on tissues."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from stn3d.choices import InitialMethod, MetricName
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.registration.content import SharedContent, unscaled
from stn3d.registration.runtime import Tracker
from stn3d.registration.settings import Settings
from stn3d.registration.stages import LinearStage, Stage
from stn3d.registration.steps import expected_steps
from stn3d.registration.structures import PairStructures
from stn3d.transforms import Linear, Transform


@dataclass(frozen=True, eq=False)
class Aligned:
    """The result of the linear stages.

    Args:
        transform: fixed points to moving points.
        view: the pair with the masks that they used.
        tissues: the tissues that they compared instead; None if they compared the images.
        metric: the metric by which they did.
    """

    transform: Transform
    view: Pair
    metric: MetricName
    tissues: Pair | None = None


@dataclass(frozen=True, eq=False)
class LinearPart:
    """The linear stages of a registration.

    Args:
        pair: the prepared images.
        settings: settings with the metric that was selected.
        start: initial transform, fixed points to moving points.
        tracker: times and reports the stages.
    """

    pair: Pair
    settings: Settings
    start: Transform
    tracker: Tracker

    def on_images(
        self, linear: list[LinearStage], rest: Sequence[Stage], content: SharedContent | None
    ) -> Aligned:
        """Run the stages: where there is content, within it first, then around it.

        Args:
            linear: the linear stages.
            rest: the stages that follow.
            content: what both images show, if one of them ends where the other goes on.
        """
        metric = self.settings.metric_name
        same = METRICS[metric].contrast == "same"
        if content is not None and same:
            linear = [*linear[:-1], _finer(linear[-1], content.finest_linear_mm)]
        elif content is not None:  # the outline misleads, and coarse voxels show little else
            linear = [_from_spacing(linear[-1], self.pair, content.spacing_mm)]
        twice = linear if content is not None and same else []
        self._plan([*twice, *linear, *rest])
        view = self.pair if content is None else content.within
        transform = through(twice, view, self.start, self.tracker)
        if content is not None and same:
            view = content.around(transform)
        return Aligned(through(linear, view, transform, self.tracker), view, metric)

    def checked(
        self, structures: PairStructures, linear: list[LinearStage], rest: Sequence[Stage]
    ) -> Aligned:
        """Run the stages on two heads; a result that aligns their structures surely less than the
        initial transform is not used.

        Args:
            structures: the structures of both heads.
            linear: the linear stages.
            rest: the stages that follow.
        """
        self._plan([*linear, *rest])
        view = structures.masked(self.pair)
        found = through(linear, view, self.start, self.tracker)
        if structures.is_worse(found, self.start):
            found = self.start
        return Aligned(found, view, self.settings.metric_name)

    def on_tissues(
        self, structures: PairStructures, last: LinearStage, rest: Sequence[Stage]
    ) -> Aligned:
        """Align the tissues of two heads.

        Args:
            structures: the structures of both heads.
            last: the linear stage that compares images elsewhere.
            rest: the stages that follow.
        """
        stage = structures.stage(last.kind)
        self._plan([stage, *rest])
        found = through([stage], structures.coarse_tissues, self.start, self.tracker)
        return Aligned(found, structures.masked(self.pair), stage.metric, structures.coarse_tissues)

    def _plan(self, stages: Sequence[Stage]) -> None:
        self.tracker.plan(expected_steps(stages, self.pair))


def rigid_again(
    pair: Pair, settings: Settings, start: Transform, content: SharedContent | None
) -> tuple[list[Stage], Transform]:
    """The stages of a rigid registration from the start again, down to finer levels.

    An initial transform that was found is rigid from here on; one that was given stays as it is.

    Args:
        pair: the prepared images.
        settings: settings of a rigid registration.
        start: initial transform, fixed points to moving points.
        content: what both images show, if one of them ends where the other goes on.
    """
    stages: list[Stage] = list(settings.stages())
    if isinstance(start, Linear) and settings.init in get_args(InitialMethod):
        start = unscaled(start, pair)
    if content is None:
        return stages, start
    last = [stage for stage in stages if isinstance(stage, LinearStage)][-1]
    return [_from_spacing(last, pair, content.spacing_mm)], start


def through(
    stages: Sequence[Stage], pair: Pair, transform: Transform, tracker: Tracker
) -> Transform:
    """The transform after some stages.

    Args:
        stages: the stages, in order.
        pair: what they compare.
        transform: fixed points to moving points.
        tracker: times and reports them.
    """
    for stage in stages:
        with tracker.step(stage.name):
            transform = stage(pair, transform, tracker)
    return transform


def _finer(stage: LinearStage, spacing_mm: float) -> LinearStage:
    """A stage that goes down to a spacing at least; None stands for a length of the images."""
    if stage.finest_spacing_mm is None:
        return stage
    return dataclasses.replace(stage, finest_spacing_mm=min(stage.finest_spacing_mm, spacing_mm))


def _from_spacing(stage: LinearStage, pair: Pair, spacing_mm: float) -> LinearStage:
    """A stage with one level of a spacing, and one or more that are finer."""
    step_mm = pair.level_step_mm(stage.in_units)
    first, least = spacing_mm / step_mm, pair.finest_mm / step_mm
    factors = {first, max(least, first / 2), *(one for one in stage.factors if one < first)}
    return dataclasses.replace(stage, factors=tuple(sorted(factors, reverse=True)))
