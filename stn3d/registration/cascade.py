"""The cascade: its stages for the settings given, and their run from an initial transform."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stn3d.errors import InputError
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.registration.automatic import Selection, select_kind
from stn3d.registration.content import SharedContent
from stn3d.registration.features import TISSUES, FeatureChoice, features_of
from stn3d.registration.initialisation.candidates import coarse_mm
from stn3d.registration.large_motion import LargeMotion, large_motion_of, stages_with_search
from stn3d.registration.linear_part import Aligned, LinearPart, rigid_again, through
from stn3d.registration.runtime import Tracker
from stn3d.registration.settings import Kind, Settings
from stn3d.registration.stages import LinearStage, Stage
from stn3d.registration.stages.dense_start import field_before
from stn3d.registration.steps import expected_steps
from stn3d.registration.structures import PairStructures, structures_of
from stn3d.transforms import Affine, Linear, LinearKind, Transform

if TYPE_CHECKING:
    from stn3d.nets.weights import TrainedNetwork

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
        linear: the linear part.
        features: whether features were used; None if they were not considered.
        structures: the structures of both heads; None if they were not needed or are not known.
        repeated_kind: kind of the repeated registrations of the quality check; None for that of the
            linear stages.
        large_motion: whether a discrete search precedes the deformable stage; None if that was
            given or not considered.
        repeated_linear: result of the linear stages, where the deformable stages began elsewhere.
    """

    transform: Transform
    settings: Settings
    kind: Selection | None
    pair: Pair
    compared: Pair
    linear: Aligned
    features: Selection | None = None
    structures: PairStructures | None = None
    repeated_kind: LinearKind | None = None
    large_motion: Selection | None = None
    repeated_linear: Linear | None = None

    def as_checked(self, transform: Transform) -> Transform:
        """A transform as a displacement of the coarse voxels of the quality check and then the
        result of the linear stages, which the check repeats."""
        if self.repeated_linear is None:
            return transform
        grid = self.pair.fixed.at(coarse_mm(self.pair)).grid
        return field_before(transform, self.repeated_linear, grid).then(self.repeated_linear)


def run_cascade(
    pair: Pair,
    settings: Settings,
    start: Transform,
    head: Callable[[], Affine | None],
    tracker: Tracker,
    content: SharedContent | None = None,
    trained: TrainedNetwork | None = None,
    choice: FeatureChoice | None = None,
    structures: PairStructures | None = None,
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
        structures: the structures of two heads whose contrast is not the same: the linear stages
            compare them in two people's heads, and a skull that only one image shows is masked.

    Raises:
        InputError: the deformable network is for other images.
    """
    stages = stages_of(pair, settings, trained)
    linear = [stage for stage in stages if isinstance(stage, LinearStage)]
    rest = stages[len(linear) :]
    part = LinearPart(pair, settings, start, tracker)
    if structures is not None and _aligns_tissues(settings, structures, choice):
        aligned = part.on_tissues(structures, linear[-1], rest)
    elif structures is not None:
        aligned = part.checked(structures, linear, rest)
    else:
        aligned = part.on_images(linear, rest, content)
    same, different = (METRICS[settings.metric_name].contrast == one for one in _CONTRASTS)
    selected, features = None, None
    if settings.kind == "auto":
        heads = head() if different else None
        subjects = None if structures is None else structures.subjects
        selected = select_kind(settings.metric_name, aligned.transform, heads, subjects)
        kind: Kind = "rigid" if selected.choice == "rigid" else "deformable"
        settings = dataclasses.replace(settings, kind=kind)
        if kind == "rigid":
            rest, transform = rigid_again(pair, settings, start, content)
            tracker.plan(expected_steps(rest, pair))
            aligned = dataclasses.replace(aligned, transform=transform)
    view = aligned.view
    if content is not None and settings.is_deformable:
        view = content.deformable(aligned.transform, same)
    compared = view
    if choice is not None and settings.is_deformable and head() is not None:
        with tracker.step("features"):
            found = structures_of(pair) if structures is None else structures
            features = features_of(pair, view, found, choice)
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
    result = through(rest, compared, motion.start, tracker)
    cascade = CascadeResult(
        result,
        settings,
        selected,
        view,
        compared,
        linear=aligned,
        features=_linear_features(aligned, structures) if features is None else features.selection,
        structures=structures,
        repeated_kind=repeated_kind,
        large_motion=motion.selection,
        repeated_linear=motion.linear,
    )
    return _as_structures_allow(cascade)


def _as_structures_allow(found: CascadeResult) -> CascadeResult:
    """The result without its deformation, where the kind was selected and the structures of two
    heads overlap surely less after the deformable stage than before."""
    structures, linear = found.structures, found.linear.transform
    if found.kind is None or structures is None or not found.settings.is_deformable:
        return found
    kind = structures.without_deformation(found.transform, linear)
    if kind is None:
        return found
    settings = dataclasses.replace(found.settings, kind="affine", large_motion="off")
    return dataclasses.replace(
        found,
        transform=linear,
        settings=settings,
        kind=kind,
        large_motion=None,
        repeated_linear=None,
    )


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


def _linear_features(aligned: Aligned, structures: PairStructures | None) -> Selection | None:
    """Features of a registration without a deformable stage."""
    if aligned.tissues is None or structures is None or structures.subjects is None:
        return None
    subjects = structures.subjects
    reason = f"{subjects.reason}; the linear stages compare white and grey matter"
    return Selection(TISSUES, reason, subjects.evidence)


def _aligns_tissues(
    settings: Settings, structures: PairStructures, choice: FeatureChoice | None
) -> bool:
    """Whether the linear stages compare tissues: where the deformable stage will, and where the
    intensities of two subjects' heads mislead. Else these determine a transform more exactly."""
    if choice is None or not (settings.is_deformable or structures.intensities_mislead):
        return False
    if structures.subjects is None:
        return settings.kind == "deformable" and not structures.is_ct
    return structures.subjects.choice == "two"


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
