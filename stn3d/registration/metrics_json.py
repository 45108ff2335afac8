"""What metrics.json holds; docs/metrics.md explains every key."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from stn3d.evaluation.json_values import json_value
from stn3d.registration.automatic import Selection
from stn3d.registration.folders import versions
from stn3d.registration.initialisation.candidates import InitialTransform
from stn3d.registration.inputs import LoadedPair
from stn3d.registration.memory import Budget
from stn3d.registration.quality import Quality
from stn3d.registration.runtime import Tracker
from stn3d.registration.settings import Settings
from stn3d.registration.uncertainty import ErrorMap
from stn3d.registration.working_space import WorkingSpace
from stn3d.transforms import Transform, describe_linear, split_linear

SCHEMA_VERSION = 1
"""Rises when a key is renamed or removed, or changes its meaning."""


@dataclass(frozen=True, eq=False)
class Estimation:
    """How a transform was found.

    Args:
        inputs: both sides of the registration.
        settings: the settings used, with what was selected automatically.
        candidates: initial transforms, best first.
        selections: what was selected automatically, by setting; None where it was given.
        memory: the memory estimate.
        device: device of the computation.
        space: space in which the pair was registered.
    """

    inputs: LoadedPair
    settings: Settings
    candidates: list[InitialTransform]
    selections: dict[str, Selection | None]
    memory: Budget
    device: torch.device
    space: WorkingSpace


@dataclass(frozen=True, eq=False)
class Measurements:
    """What was measured of a transform.

    Args:
        before: metrics of the identity, see `stn3d.evaluation.evaluate_case`.
        after: metrics of the transform.
        excluded: metrics of the excluded regions, by role.
        quality: outcome of the quality check.
        outside_value: value of the moved image where the moving image shows nothing.
        errors: the expected error at every point; None if it was not asked for.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    excluded: dict[str, dict[str, Any]]
    quality: Quality
    outside_value: float
    errors: ErrorMap | None = None


def registration_metrics(
    estimation: Estimation, transform: Transform, measured: Measurements, tracker: Tracker
) -> dict[str, Any]:
    """The content of metrics.json.

    Args:
        estimation: how the transform was found.
        transform: fixed points to moving points.
        measured: what was measured of it.
        tracker: timings and losses.
    """
    inputs, settings = estimation.inputs, estimation.settings
    selected = {k: dataclasses.asdict(v) for k, v in estimation.selections.items() if v is not None}
    return {
        "schema_version": SCHEMA_VERSION,
        "quality": measured.quality.as_dict(),
        "auto_selected": selected,
        "fixed": inputs.fixed.about(),
        "moving": inputs.moving.about(),
        "geometry": {"mode": estimation.space.mode, "note": estimation.space.note},
        "before": measured.before,
        "after": measured.after,
        "uncertainty": None if measured.errors is None else measured.errors.summary(),
        "outside_value": json_value(measured.outside_value),
        "linear_parameters": _linear_parameters(transform),
        "excluded_regions": measured.excluded,
        "initial_candidates": [one.as_dict() for one in estimation.candidates],
        "stages": tracker.levels,
        "memory": {
            "estimated_gb": round(estimation.memory.estimated_gb, 2),
            "note": estimation.memory.note,
        },
        "settings": dataclasses.asdict(settings),
        "channel_weights": inputs.channel_weights(settings),
        "used_in_optimisation": inputs.used_in_optimisation(settings),
        "seed": settings.seed,
        "timings_s": tracker.timings_s,
        "versions": versions(),
        "device": str(estimation.device),
        "threads": torch.get_num_threads(),
    }


def _linear_parameters(transform: Transform) -> dict[str, Any] | None:
    """Of the linear part that follows a displacement field, if there is one."""
    _, linear = split_linear(transform)
    return None if linear is None else describe_linear(linear).as_dict()
