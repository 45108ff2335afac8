"""Register a pair of images: images -> initial transform -> cascade -> transform -> figures."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from stn3d.errors import InputError
from stn3d.evaluation import (
    EvaluationCase,
    evaluate,
    excluded_region_metrics,
    read_case,
    read_exclusion,
)
from stn3d.io import Image, ImageSource, read_transform
from stn3d.losses.similarity import MetricName
from stn3d.preprocessing.intensity import looks_like_ct
from stn3d.preprocessing.pair import Pair
from stn3d.registration.automatic import SelectedMetric
from stn3d.registration.cascade import initial_steps, run_cascade
from stn3d.registration.channels import Channels, Sources, read_channels
from stn3d.registration.guidance import PointSource, read_points_of, steered, steering_channels
from stn3d.registration.initialisation.candidates import InitialMethod, InitialTransform
from stn3d.registration.initialisation.initialise import initialise, linear_kind
from stn3d.registration.memory import MemoryWarning, budget
from stn3d.registration.postprocessing import final, inverted
from stn3d.registration.preparation import Mask, scan_of
from stn3d.registration.quality import assess_quality, measure_quality
from stn3d.registration.result import Registration, versions
from stn3d.registration.runtime import Tracker, device_of, limited_threads
from stn3d.registration.settings import (
    INITIAL_METHODS,
    Device,
    Estimator,
    Kind,
    MetricChoice,
    Preset,
    Settings,
    read_config,
    settings_from,
)
from stn3d.registration.stages import Progress, ProgressEvent
from stn3d.transforms import Affine, Transform
from stn3d.warp import warp_image


def register(
    fixed: ImageSource,
    moving: ImageSource,
    *,
    kind: Kind | None = None,
    metric: MetricChoice | None = None,
    preset: Preset | None = None,
    init: InitialMethod | str | os.PathLike[str] | Transform | None = None,
    estimator: Estimator | None = None,
    fixed_mask: ImageSource | None = None,
    moving_mask: ImageSource | None = None,
    fixed_exclude: ImageSource | None = None,
    moving_exclude: ImageSource | None = None,
    fixed_channels: Sources | None = None,
    moving_channels: Sources | None = None,
    channel_weights: Sequence[float] | None = None,
    fixed_labels: ImageSource | None = None,
    moving_labels: ImageSource | None = None,
    label_weight: float | None = None,
    fixed_points: PointSource | None = None,
    moving_points: PointSource | None = None,
    landmark_weight: float | None = None,
    fixed_volume: int | None = None,
    moving_volume: int | None = None,
    fixed_window: str | None = None,
    moving_window: str | None = None,
    device: Device | None = None,
    threads: int | None = None,
    max_memory: float | None = None,
    seed: int | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Registration:
    """Find the transform that brings the moving image onto the fixed image.

    Args:
        fixed: the image that stays: a path, nibabel image, MetaTensor or (tensor, Grid).
        moving: the image that is moved; it need share neither shape, spacing nor orientation.
        kind: ``rigid``, ``similarity``, ``affine``, ``deformable``, or ``auto`` (the default):
            rigid for one person's head in two contrasts, else deformable.
        metric: ``lncc``, ``ncc``, ``mse``, ``nmi``, ``mind``, ``gradient``, or ``auto`` (the
            default): ``nmi`` for images of two contrasts, else ``lncc``.
        preset: ``fast``, ``default`` or ``accurate``.
        init: ``auto`` (the default), ``header``, ``centres``, ``mass``, ``moments``, a transform or
            the path of one.
        estimator: ``auto`` (the default), ``optimiser``, ``network`` or ``both``; see `Settings`.
        fixed_mask: voxels of the fixed image that count.
        moving_mask: voxels of the moving image that count.
        fixed_exclude: voxels of the fixed image that do not, a lesion or a resection.
        moving_exclude: voxels of the moving image that do not.
        fixed_window: of a CT, ``head``, ``lung``, ``abdomen`` or ``bone``, or of any image
            ``LOW,HIGH``: the intensities that are told apart. By default all that matter.
        moving_window: see fixed_window.
        fixed_channels: further contrasts of the fixed image, on its grid; the first one decides,
            is moved and is measured, all steer.
        moving_channels: as many of the moving image, in the same order, on its grid.
        channel_weights: how much each contrast counts, the first too; by default all alike.
        fixed_labels: with moving_labels: figures of their overlap.
        moving_labels: see fixed_labels.
        label_weight: how much the labels also steer, beside the images' 1; by default not at all.
            What steered is no judge of the outcome any more.
        fixed_points: landmarks of the fixed image, a file or ``(N, d)`` world RAS+ mm: they steer,
            with moving_points, and a start is found from them where they are enough.
        moving_points: the same landmarks in the moving image.
        landmark_weight: what their mean squared distance counts, in units of 10 mm, beside the
            images' loss from 0 to 1; by default 1. At 0 they do not steer and are measured only.
        fixed_volume: which volume of a 4D fixed image.
        moving_volume: which volume of a 4D moving image.
        device: ``auto`` (the default), ``cpu`` or ``cuda``.
        threads: CPU threads.
        max_memory: GB that the process may take, by default 80 % of what is free; where it would
            take more, a coarser finest level is chosen and a `MemoryWarning` says so.
        seed: for whatever is drawn.
        config: a YAML file, or a mapping, of keys of `stn3d.registration.settings.Settings`.
        progress: called with stage, level's spacing in mm, iteration and loss.

    Returns:
        The registration.

    Raises:
        InputError: an image, mask, label map or setting is of no use, or the memory allowed is too
            little; the message says why.
    """
    options = {
        "kind": kind,
        "metric": metric,
        "preset": preset,
        "init": init if init is None or isinstance(init, str | os.PathLike) else "given",
        "estimator": estimator,
        "device": device,
        "threads": threads,
        "max_memory": max_memory,
        "fixed_window": fixed_window,
        "moving_window": moving_window,
        "label_weight": label_weight,
        "landmark_weight": landmark_weight,
        "seed": seed,
    }
    plan = _Plan(options, read_config(config))
    settings = plan.settings
    start = init if isinstance(init, Transform) else _initial_from(settings.init)
    tracker = Tracker(progress)
    with tracker.step("read"):
        case, moving_mask_image = read_case(
            fixed,
            moving,
            (fixed_mask, moving_mask),
            (fixed_labels, moving_labels),
            (fixed_volume, moving_volume),
        )
        case = read_points_of(case, fixed_points, moving_points)
        outside = read_exclusion(fixed_exclude, case.fixed, "fixed")
        beyond = read_exclusion(moving_exclude, case.moving, "moving")
        masks = (
            Mask("fixed", case.fixed_mask, outside),
            Mask("moving", moving_mask_image, beyond),
        )
        further = fixed_channels, moving_channels
        channels = read_channels((case.fixed, case.moving), further, channel_weights)
    with limited_threads(settings.threads):
        return _run(case, masks, channels, plan, start, tracker)


@dataclass(frozen=True)
class _Plan:
    """What was asked for: settings, and those that another metric would have."""

    options: dict[str, Any]
    config: Mapping[str, Any]

    @cached_property
    def settings(self) -> Settings:
        return settings_from(self.options, self.config)

    def of(self, metric: MetricName, choice: SelectedMetric | None) -> Settings:
        decided: dict[str, Any] = {"metric": metric}
        if choice is not None and self.settings.deformable_metric is None:
            decided["deformable_metric"] = choice.deformable_metric
        return settings_from({**self.options, **decided}, self.config)


def _run(
    case: EvaluationCase,
    masks: tuple[Mask, Mask],
    channels: Channels,
    plan: _Plan,
    start: Transform | None,
    tracker: Tracker,
) -> Registration:
    settings = plan.settings
    device = device_of(settings.device)
    grids, images = (case.fixed.grid, case.moving.grid), (case.fixed, case.moving)
    count = channels.count + steering_channels(case, settings)
    budget(*grids, settings, count)  # too little is told before any work
    with tracker.step("prepare"):
        windows = settings.fixed_window, settings.moving_window
        parts = zip(images, masks, windows, strict=True)
        first, second = (scan_of(*part, device) for part in parts)
        pair = channels.joined(Pair(first, second), (masks[0].counted, masks[1].counted))
        pair = steered(pair, case, settings)
    tracker.plan(initial_steps(settings, pair))
    with tracker.step("initialise"):
        if start is not None:
            _require_dimension(start, case)
        ct = tuple(looks_like_ct(image.values) for image in images)
        initial = initialise(pair, settings, ct, start)
        _require_overlap(initial.best, case)
    metric, choice, candidates = initial.metric, initial.selected_metric, initial.candidates
    memory = budget(*grids, plan.of(metric, choice), count)
    if memory.note is not None:
        warnings.warn(memory.note, MemoryWarning, stacklevel=3)
    begin = initial.best.transform
    run = run_cascade(pair, memory.settings, begin, lambda: initial.network.transform, tracker)
    settings, transform = run.settings, final(run.transform)
    with tracker.step("inverse"):
        inverse, residual_mm = inverted(transform)
    with tracker.step("metrics"):  # before there is a moved image to hold
        before = evaluate(case, Affine.identity(case.fixed.grid.ndim))
    with tracker.step("warp"):
        moved = warp_image(case.moving.values, case.moving.grid, transform, case.fixed.grid)
    with tracker.step("metrics"):
        after = evaluate(case, transform, inverse, moved)
        after["inverse_solver_residual_mm"] = residual_mm
    with tracker.step("quality_check"):
        kind = linear_kind(settings.kind)
        quality = assess_quality(measure_quality(pair, transform, kind, metric, after))
    tracker(ProgressEvent("quality_check", 1.0))
    decided = {"metric": choice, "kind": run.kind}
    metrics = {
        "quality": quality.as_dict(),
        "decided": {k: dataclasses.asdict(v) for k, v in decided.items() if v is not None},
        "fixed": _about(case.fixed),
        "moving": _about(case.moving),
        "before": before,
        "after": after,
        "excluded": {
            mask.role: excluded_region_metrics(mask.exclude, way)
            for mask, way in zip(masks, (transform, inverse), strict=True)
            if mask.exclude is not None
        },
        "initial_candidates": [one.as_dict() for one in candidates],
        "stages": tracker.levels,
        "memory": {"estimated_gb": round(memory.estimated_gb, 2), "note": memory.note},
        "settings": dataclasses.asdict(settings),
        "channel_weights": channels.weights,
        "steered_by": _steering(pair),
        "seed": settings.seed,
        "seconds": tracker.timings_s,
        "versions": versions(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
    image = dataclasses.replace(case.fixed, values=moved, name=f"moved {case.moving.name}")
    return Registration(transform, inverse, image, case.fixed, metrics)


def _initial_from(init: str) -> Transform | None:
    """None for a method's name, else the transform in the file."""
    if init in INITIAL_METHODS:
        return None
    if not Path(init).exists():
        methods = ", ".join(INITIAL_METHODS)
        raise InputError(f"--init {init} is neither a file nor one of {methods}.")
    return read_transform(init)


def _require_dimension(start: Transform, case: EvaluationCase) -> None:
    if start.ndim != case.fixed.grid.ndim:
        raise InputError(
            f"the initial transform (--init) is {start.ndim}D and the images are "
            f"{case.fixed.grid.ndim}D; give one of their dimension."
        )


def _require_overlap(best: InitialTransform, case: EvaluationCase) -> None:
    if best.fov_overlap_fraction == 0:
        raise InputError(
            f"{case.fixed.name} and {case.moving.name} do not overlap under the initial transform "
            f"({best.name}); use --init auto, or mend the headers."
        )


def _steering(pair: Pair) -> list[str]:
    """What steered beside the images, of which figures are no judge."""
    labels = ["labels"] if pair.fixed.has_labels else []
    return labels + (["landmarks"] if pair.landmarks is not None else [])


def _about(image: Image) -> dict[str, Any]:
    spacing = [round(s, 6) for s in image.grid.spacing_mm]
    return {"name": image.name, "shape": list(image.grid.shape), "spacing_mm": spacing}
