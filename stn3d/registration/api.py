"""Register a pair of images.

read -> prepare -> initialise -> cascade -> invert -> warp -> measure -> check the quality.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor

from stn3d.choices import (
    Estimator,
    Features,
    InitialMethod,
    Kind,
    LargeMotionChoice,
    MetricChoice,
    MetricName,
    Preset,
    Structures,
)
from stn3d.errors import InputError, MemoryWarning
from stn3d.evaluation import evaluate_case, excluded_region_metrics
from stn3d.grid import Grid
from stn3d.io import Image, ImageSource, TransformSource
from stn3d.memory.limit import memory_limit
from stn3d.preprocessing.pair import Pair
from stn3d.registration.cascade import CascadeResult, deformable_network, run_cascade
from stn3d.registration.final_loss import optimised_loss
from stn3d.registration.given_transform import initial_transform
from stn3d.registration.initialisation.candidates import InitialTransform
from stn3d.registration.initialisation.initialise import Initialisation, initialise
from stn3d.registration.inputs import (
    LoadedPair,
    RegistrationImage,
    read_pair,
    require_similar_extents,
)
from stn3d.registration.memory import budget
from stn3d.registration.metrics_json import Estimation, Measurements, registration_metrics
from stn3d.registration.postprocessing import final
from stn3d.registration.progress_bar import chosen_progress
from stn3d.registration.quality import assess_quality
from stn3d.registration.quality_measures import QualityMeasures, measure_quality
from stn3d.registration.request import Request
from stn3d.registration.result import Registration
from stn3d.registration.runtime import Tracker, device_of, limited_threads
from stn3d.registration.settings import Settings, read_config
from stn3d.registration.stages import Progress, ProgressEvent
from stn3d.registration.steps import initial_steps
from stn3d.registration.structures import structures_to_check
from stn3d.registration.uncertainty import SearchMeasures, error_map, search_measures
from stn3d.registration.working_space import WorkingSpace, working_space
from stn3d.transforms import Affine, Transform, invert_fields
from stn3d.warp import warp_image
from stn3d.warp.colour import outside_colour, warp_colours
from stn3d.warp.fill import outside_value

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from stn3d.nets.weights import TrainedNetwork


_BeforeAfter = tuple[dict[str, Any], dict[str, Any]]


class FurtherSettings(TypedDict, total=False):
    """Keyword arguments of `register` that few calls need; `Settings` documents each."""

    estimator: Estimator | None
    deformable_metric: MetricName | None
    channel_weights: Sequence[float] | None
    label_weight: float | None
    landmark_weight: float | None
    device: str | None
    threads: int | None
    max_memory: float | None
    seed: int | None
    fill: str | float | None
    features: Features | None
    structures: Structures | None
    large_motion: LargeMotionChoice | None
    uncertainty: bool | None
    deformable_weights: str | os.PathLike[str] | None


def register(
    fixed: RegistrationImage | ImageSource,
    moving: RegistrationImage | ImageSource,
    *,
    kind: Kind | None = None,
    metric: MetricChoice | None = None,
    preset: Preset | None = None,
    init: InitialMethod | TransformSource | tuple[TransformSource, ...] | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    network: TrainedNetwork | None = None,
    **further: Unpack[FurtherSettings],
) -> Registration:
    """Find the transform that aligns the moving image with the fixed image.

    Args:
        fixed: the fixed image: a path, `Image`, nibabel or SimpleITK image, MetaTensor, or an
            array with its affine or `Grid`; or a `RegistrationImage`, which adds masks, channels,
            labels, landmarks, an intensity window and the volume of a 4D image.
        moving: the moving image, likewise; shape, spacing and orientation may differ.
        kind: transform model: ``rigid``, ``similarity``, ``affine``, ``deformable``, or ``auto``
            (the default): rigid for one person's head in different contrasts, else deformable.
        metric: image similarity: ``lncc``, ``ncc``, ``mse``, ``nmi``, ``mind``, ``gradient``, or
            ``auto`` (the default): ``nmi`` for images of different contrast, else ``lncc``.
        preset: ``fast``, ``default`` or ``accurate``.
        init: initial transform: ``auto`` (the default), ``header``, ``centres``, ``mass``,
            ``moments``, or a transform: a `Transform`, the path of one, a matrix or a SimpleITK
            transform, see `stn3d.io.as_transform`; or a tuple of transforms in the order in which a
            fixed point passes through them.
        config: YAML file or mapping with keys of `stn3d.registration.settings.Settings`; the
            arguments take precedence.
        progress: true for a progress bar, or a function that is called with a `ProgressEvent` at
            every step and iteration.
        network: deformable network that the estimators ``network`` and ``both`` use. Default: that
            of the file ``deformable_weights``; they need one of the two.
        **further: further keys of `Settings`: ``estimator``, ``deformable_metric``,
            ``channel_weights``, ``label_weight``, ``landmark_weight``, ``device``, ``threads``,
            ``max_memory``, ``seed``, ``fill``, ``features``, ``structures``, ``large_motion``,
            ``uncertainty``, ``deformable_weights``.

    Returns:
        The transform, its inverse, the moved image and the metrics.

    Raises:
        InputError: an image, mask, label map, set of landmarks or setting cannot be used, or the
            allowed memory is too small; the message says what to do.
    """
    named = init is None or isinstance(init, str | os.PathLike)
    method = init if named else "given"
    options = {"kind": kind, "metric": metric, "preset": preset, "init": method, **further}
    request = Request(options, read_config(config))
    settings = request.settings
    network = deformable_network(settings, network)  # fails before any work, and so does the next
    start = initial_transform(settings.init if named else init, fixed, moving)
    with chosen_progress(progress) as report:
        tracker = Tracker(report)
        with tracker.step("read"):
            inputs = read_pair(fixed, moving)
        with limited_threads(settings.threads), memory_limit(settings.max_memory):
            found = _registered(inputs, request, start, tracker, network)
    given_moving = RegistrationImage.of(moving)  # read again when saved, in its own data type
    labels, source = given_moving.labels, given_moving.image
    return dataclasses.replace(found, moving_labels=labels, moving_source=source)


def _registered(
    inputs: LoadedPair,
    request: Request,
    given: Transform | None,
    tracker: Tracker,
    trained: TrainedNetwork | None,
) -> Registration:
    settings, device = request.settings, device_of(request.settings.device)
    if given is None and settings.init == "auto":
        require_similar_extents(inputs.fixed, inputs.moving)
    space = working_space(inputs.fixed.grid, inputs.moving.grid)
    grids, channels = space.grids, inputs.num_channels(settings)
    budget(*grids, settings, channels)  # fails before any work
    if inputs.moving.image.colours is not None:
        outside_colour(inputs.moving.image.colours, settings.fill)
    with tracker.step("prepare"):
        prepared = inputs.prepared(settings, device)
        pair = space.pair(prepared)
    tracker.plan(initial_steps(settings, pair))
    with tracker.step("initialise"):
        start = _initialised(pair, settings, inputs, _given(given, inputs, space))
    selected = start.selected_metric
    fitted = functools.partial(budget, *grids, channels=channels, prepared=pair.grids)
    memory = fitted(request.with_metric(start.metric, selected))
    if memory.note is not None:
        warnings.warn(memory.note, MemoryWarning, stacklevel=3)
    begin, head, content = start.best.transform, start.network, start.content
    choice = request.with_features(start.metric, selected, fitted)
    ways = lambda: head.transform, tracker, content, trained, choice, start.structures
    cascade = run_cascade(pair, memory.settings, begin, *ways)
    region = None if content is None else content.selection(cascade.transform)
    if cascade.structures is not None:
        region = cascade.structures.region
    if cascade.structures is None and settings.structures == "always":
        found = structures_to_check(pair, start.network.transform is not None)
        cascade = dataclasses.replace(cascade, structures=found)
    selections = {
        "slices": inputs.slices(prepared),
        "metric": None if selected is None else selected.used(cascade.settings.deformable_metric),
        "kind": cascade.kind,
        "features": cascade.features,
        "large_motion": cascade.large_motion,
        "region": region,
    }
    candidates = start.candidates
    estimation = Estimation(inputs, cascade.settings, candidates, selections, memory, device, space)
    return _completed(estimation, cascade, tracker)


def _completed(estimation: Estimation, cascade: CascadeResult, tracker: Tracker) -> Registration:
    """Invert, warp and measure.

    Args:
        estimation: how the transform was found.
        cascade: the transform and the prepared images, in the working space.
        tracker: times the steps.
    """
    pair, compared = cascade.pair, cascade.compared
    found = final(cascade.transform, estimation.space.grids[0])
    inputs, settings = estimation.inputs, estimation.settings
    fixed, moving, case = inputs.fixed.image, inputs.moving.image, inputs.evaluation_case
    with tracker.step("inverse"):
        inverse, residual_mm = invert_fields(found)
        transform, inverse = estimation.space.result(found, inverse)
    with tracker.step("metrics"):  # before the moved image takes memory
        before = evaluate_case(case, Affine.identity(fixed.grid.ndim)).to_dict()
        identity = Affine.identity(pair.fixed.grid.ndim)
        before["image_loss"] = optimised_loss(compared, identity, settings, tracker.levels)
    with tracker.step("warp"):
        moved = warp_image(moving.values, moving.grid, transform, fixed.grid)
    with tracker.step("metrics"):
        after = evaluate_case(case, transform, inverse, moved).to_dict()
        after["image_loss"] = optimised_loss(compared, found, settings, tracker.levels)
        after["inverse_solver_residual_mm"] = residual_mm
        excluded = _excluded(inputs, transform, inverse)
    errors = None
    if settings.uncertainty:
        with tracker.step("uncertainty"):
            errors = error_map(pair, found, settings)
    with tracker.step("quality_check"):
        searched = search_measures(pair, found, settings, errors)
        measures = _measured_quality(cascade, found, (before, after), searched)
        quality = assess_quality(measures)
    tracker(ProgressEvent("quality_check", 1.0))
    outside = outside_value(settings.fill, moving.values)
    moved = _filled(moved, moving, transform, fixed.grid, outside)
    measured = Measurements(before, after, excluded, quality, outside, errors)
    metrics = registration_metrics(estimation, transform, measured, tracker)
    colours = None
    if moving.colours is not None:
        grids = moving.grid, transform, fixed.grid
        colours = warp_colours(moving.colours, *grids, fill=settings.fill)
    name = f"moved {moving.name}"
    image = dataclasses.replace(fixed, values=moved, name=name, colours=colours)
    shown = LoadedPair(inputs.fixed, inputs.moving)  # without what it computed
    error = None
    if errors is not None:
        values = estimation.space.on_fixed(errors.on(estimation.space.grids[0]), transform)
        error = dataclasses.replace(fixed, values=values, name="uncertainty", colours=None)
    return Registration(transform, inverse, image, fixed, metrics, inputs=shown, uncertainty=error)


def _measured_quality(
    cascade: CascadeResult, found: Transform, metrics: _BeforeAfter, searched: SearchMeasures
) -> QualityMeasures:
    """The measures of the quality check, which compares what the linear stages compared."""
    linear = cascade.linear
    pair = cascade.pair if linear.tissues is None else linear.tissues
    names = cascade.settings.linear_kind, linear.metric
    checked = cascade.as_checked(found)
    others = cascade.repeated_kind, cascade.structures
    before_mm = (metrics[0].get("tre_mm") or {}).get("mean")
    return measure_quality(pair, checked, *names, metrics[1], *others, searched, before_mm)


def _filled(
    moved: Tensor, moving: Image, transform: Transform, grid: Grid, outside: float
) -> Tensor:
    """The moved image with a value other than 0 where the moving image shows nothing.

    The metrics are those of the image with 0 there, as in `stn3d.evaluation`.
    """
    if outside == 0:
        return moved
    seen = warp_image(torch.ones_like(moving.values), moving.grid, transform, grid)
    return moved.masked_fill_(seen == 0, outside)


def _excluded(
    inputs: LoadedPair, transform: Transform, inverse: Transform
) -> dict[str, dict[str, Any]]:
    """What became of the excluded regions of either image."""
    return {
        side.role: excluded_region_metrics(side.exclude, way)
        for side, way in ((inputs.fixed, transform), (inputs.moving, inverse))
        if side.exclude is not None
    }


def _initialised(
    pair: Pair, settings: Settings, inputs: LoadedPair, given: Transform | None
) -> Initialisation:
    """See `initialise`.

    Raises:
        InputError: the initial transform leaves no overlap.
    """
    ct = inputs.fixed.is_ct, inputs.moving.is_ct
    constant = inputs.fixed.may_be_stripped, inputs.moving.may_be_stripped
    start = initialise(pair, settings, ct, given, constant)
    _require_overlap(start.best, inputs)
    return start


def _given(start: Transform | None, inputs: LoadedPair, space: WorkingSpace) -> Transform | None:
    """The initial transform that the user gives, in the working space."""
    ndim = inputs.fixed.grid.ndim
    if start is None or start.ndim == ndim:
        return None if start is None else space.given(start)
    raise InputError(
        f"the initial transform (--init) is {start.ndim}D and the images are {ndim}D; give one "
        "of their dimension."
    )


def _require_overlap(best: InitialTransform, inputs: LoadedPair) -> None:
    if best.fov_overlap_fraction == 0:
        raise InputError(
            f"{inputs.fixed.name} and {inputs.moving.name} do not overlap under the initial "
            f"transform ({best.name}); use --init auto, or correct the image headers."
        )
