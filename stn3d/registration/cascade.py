"""The cascade: its stages for the settings given, and their run from an initial transform."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stn3d.errors import InputError
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.registration.automatic import Selection, select_kind
from stn3d.registration.content import SharedContent, unscaled
from stn3d.registration.features import FeatureChoice, features_of
from stn3d.registration.initialisation.candidates import coarse_mm
from stn3d.registration.large_motion import LargeMotion, large_motion_of, stages_with_search
from stn3d.registration.runtime import Step, Tracker
from stn3d.registration.settings import Kind, Settings
from stn3d.registration.stages import LinearStage, Stage
from stn3d.registration.stages.dense_start import field_before
from stn3d.transforms import Affine, Linear, LinearKind, Transform

if TYPE_CHECKING:
    from stn3d.nets.weights import TrainedNetwork

# Expected work beside the stages, in voxel visits: of every registration, and per voxel.
_INITIALISE, _QUALITY_CHECK = 8e6, 4e6
_INVERSE, _METRICS, _WARP = 0.8, 0.4, 0.1
_CONTRASTS = "same", "different"


@dataclass(frozen=True)
class CascadeResult:
    """The outcome of a cascade.

    Args:
        transform: fixed points to moving points.
        settings: the settings used, with the kind that was selected.
        kind: the selection of the kind; None if the kind was given.
        pair: the images with the masks that the last stage used.
        compared: what the last stage compared: these images, or features of them.
        features: whether features were used; None if they were not considered.
        repeated_kind: kind of the repeated registrations of the quality check; None for that of the
            linear stages.
        large_motion: whether a discrete search precedes the deformable stage; None if that was
            given or not considered.
        linear: result of the linear stages, where the deformable stages began elsewhere.
    """

    transform: Transform
    settings: Settings
    kind: Selection | None
    pair: Pair
    compared: Pair
    features: Selection | None = None
    repeated_kind: LinearKind | None = None
    large_motion: Selection | None = None
    linear: Linear | None = None

    def as_checked(self, transform: Transform) -> Transform:
        """A transform as a displacement of the coarse voxels of the quality check and then the
        result of the linear stages, which the check repeats."""
        if self.linear is None:
            return transform
        grid = self.pair.fixed.at(coarse_mm(self.pair)).grid
        return field_before(transform, self.linear, grid).then(self.linear)


def run_cascade(
    pair: Pair,
    settings: Settings,
    start: Transform,
    head: Callable[[], Affine | None],
    tracker: Tracker,
    content: SharedContent | None = None,
    trained: TrainedNetwork | None = None,
    choice: FeatureChoice | None = None,
) -> CascadeResult:
    """Run the stages from an initial transform; where no kind is given, select it on the way.

    Args:
        pair: the prepared images.
        settings: settings with the metric that was selected.
        start: initial transform, fixed points to moving points.
        head: estimates the transform between two heads, see `select_kind`; called if needed.
        tracker: times and reports the stages.
        content: what both images show, if one of them ends where the other goes on: the linear
            stages run within the content first, then around it; the others run where it lies.
        trained: the deformable network, see `stages_of`.
        choice: how features are used; None if they are not to be.

    Raises:
        InputError: the deformable network is for other images.
    """
    stages = stages_of(pair, settings, trained)
    linear = [stage for stage in stages if isinstance(stage, LinearStage)]
    rest = stages[len(linear) :]
    aligned = _linear_part(pair, settings, start, linear, rest, tracker, content)
    same, different = (METRICS[settings.metric_name].contrast == one for one in _CONTRASTS)
    selected, features = None, None
    if settings.kind == "auto":
        heads = head() if different else None
        selected = select_kind(settings.metric_name, aligned.transform, heads)
        kind: Kind = "rigid" if selected.choice == "rigid" else "deformable"
        settings = dataclasses.replace(settings, kind=kind)
        if kind == "rigid":
            rest, transform = _rigid_again(pair, settings, start, content)
            tracker.plan(expected_steps(rest, pair))
            aligned = dataclasses.replace(aligned, transform=transform)
    view = aligned.view
    if content is not None and settings.is_deformable:
        view = content.deformable(aligned.transform, same)
    compared = view
    if choice is not None and settings.is_deformable and head() is not None:
        with tracker.step("features"):
            features = features_of(pair, view, aligned.transform, choice)
        if features.pair is not None:
            compared = features.pair
            settings = dataclasses.replace(choice.settings, kind=settings.kind)
            rest = [stage for stage in settings.stages() if not isinstance(stage, LinearStage)]
            tracker.plan(expected_steps(rest, pair))
    motion = _large_motion(pair, compared, settings, (start, aligned.transform), tracker)
    if motion.runs:
        settings = dataclasses.replace(settings, large_motion="on")
        rest = stages_with_search(settings, pair)
        tracker.plan(expected_steps(rest, pair))
    # In the coarse voxels of the quality check, different contrasts do not determine the scale.
    repeated_kind: LinearKind | None = None if content is None or same else "rigid"
    result = _through(rest, compared, motion.start, tracker)
    chosen = None if features is None else features.selection
    selections = chosen, repeated_kind, motion.selection
    return CascadeResult(result, settings, selected, view, compared, *selections, motion.linear)


def _large_motion(
    pair: Pair,
    compared: Pair,
    settings: Settings,
    linears: tuple[Transform, Transform],
    tracker: Tracker,
) -> LargeMotion:
    """See `large_motion_of`; a step of its own where it is considered."""
    if not settings.is_deformable or settings.large_motion == "off":
        return LargeMotion(linears[1])
    with tracker.step("large_motion"):
        return large_motion_of(pair, compared, settings, linears)


@dataclass(frozen=True)
class _Aligned:
    """The result of the linear stages, and the pair with the masks that they used."""

    transform: Transform
    view: Pair


def _linear_part(
    pair: Pair,
    settings: Settings,
    start: Transform,
    linear: list[LinearStage],
    rest: Sequence[Stage],
    tracker: Tracker,
    content: SharedContent | None,
) -> _Aligned:
    """Run the linear stages: where there is content, within it first, then around it."""
    same = METRICS[settings.metric_name].contrast == "same"
    if content is not None and same:
        linear[-1] = _finer(linear[-1], content.finest_linear_mm)
    elif content is not None:  # the outline misleads, and coarse voxels show little else
        linear = [_from_spacing(linear[-1], pair, content.spacing_mm)]
    twice = linear if content is not None and same else []
    tracker.plan(expected_steps([*twice, *linear, *rest], pair))
    view = pair if content is None else content.within
    transform = _through(twice, view, start, tracker)
    if content is not None and same:
        view = content.around(transform)
    return _Aligned(_through(linear, view, transform, tracker), view)


def _rigid_again(
    pair: Pair, settings: Settings, start: Transform, content: SharedContent | None
) -> tuple[list[Stage], Transform]:
    """The stages of a rigid registration from the start again, down to finer levels."""
    stages: list[Stage] = list(settings.stages())
    if content is None or not isinstance(start, Linear):
        return stages, start
    last = [stage for stage in stages if isinstance(stage, LinearStage)][-1]
    return [_from_spacing(last, pair, content.spacing_mm)], unscaled(start, pair)


def _finer(stage: LinearStage, spacing_mm: float) -> LinearStage:
    """A stage that goes down to a spacing at least; None stands for a length of the images."""
    if stage.finest_spacing_mm is None:
        return stage
    return dataclasses.replace(stage, finest_spacing_mm=min(stage.finest_spacing_mm, spacing_mm))


def _from_spacing(stage: LinearStage, pair: Pair, spacing_mm: float) -> LinearStage:
    """A stage with one level of a spacing, and one or more that are finer."""
    first = spacing_mm / pair.finest_mm
    factors = {first, max(1.0, first / 2), *(one for one in stage.factors if one < first)}
    return dataclasses.replace(stage, factors=tuple(sorted(factors, reverse=True)))


def _through(
    stages: Sequence[Stage], pair: Pair, transform: Transform, tracker: Tracker
) -> Transform:
    for stage in stages:
        with tracker.step(stage.name):
            transform = stage(pair, transform, tracker)
    return transform


def stages_of(pair: Pair, settings: Settings, trained: TrainedNetwork | None = None) -> list[Stage]:
    """The stages: linear ones, then the optimiser's deformable one, a network's, or both.

    Args:
        pair: the prepared images.
        settings: settings with a metric.
        trained: the deformable network, see `deformable_network`; None for the optimiser alone.

    Raises:
        InputError: the network is for other images.
    """
    stages = settings.stages()
    if trained is None:
        return list(stages)
    from stn3d.nets.stages import NetworkStage

    reason = trained.mismatch(pair)
    if reason is not None:
        raise InputError(f"the deformable network {reason}; use --estimator optimiser.")
    *linear, deformable = stages
    network = NetworkStage(trained.to(pair.fixed.image.device), settings.deformable)
    return [*linear, network] if settings.estimator == "network" else [*linear, network, deformable]


def deformable_network(
    settings: Settings, given: TrainedNetwork | None = None
) -> TrainedNetwork | None:
    """The deformable network of a registration; None if the settings ask for none.

    Args:
        settings: the settings asked for.
        given: the network to use, which precedes the weights file of the settings.

    Raises:
        InputError: the estimator needs a network and there is none, or the file cannot be used.
    """
    if not settings.is_deformable or settings.estimator in ("auto", "optimiser"):
        return None
    if given is not None:
        return given
    if settings.deformable_weights is None:
        raise InputError(
            f"--estimator {settings.estimator} needs a trained deformable network, and stn3d "
            "includes none; give one as --deformable-weights FILE (stn3d train makes it, see "
            "docs/training.md), or use --estimator optimiser."
        )
    from stn3d.nets.weights import load_weights

    return load_weights(settings.deformable_weights, "deformable")


def expected_steps(stages: Sequence[Stage], pair: Pair) -> list[Step]:
    """The stages and the steps after them, with their expected work."""
    levels = [(stage, stage.levels(pair)) for stage in stages]
    steps = [Step(stage.name, sum(one.work for one in each), True) for stage, each in levels]
    last, finest = levels[-1][0], levels[-1][1][-1]
    inverse = 0.0 if isinstance(last, LinearStage) else _INVERSE * finest.voxels
    size = pair.fixed.grid.num_voxels
    end = (
        ("inverse", inverse),
        ("metrics", _METRICS * size),
        ("warp", _WARP * size),
        ("metrics", _METRICS * size),
        ("quality_check", _QUALITY_CHECK),
    )
    return steps + [Step(name, work) for name, work in end]


def initial_steps(settings: Settings, pair: Pair) -> list[Step]:
    """The initialisation and all steps after it, before a metric is selected."""
    return [Step("initialise", _INITIALISE), *expected_steps(settings.stages(), pair)]
