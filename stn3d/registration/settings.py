"""What a registration can be told: kind, metric, preset, start, and each stage's own settings."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stn3d.choices import (
    Device,
    Estimator,
    Kind,
    LinearKind,
    MetricChoice,
    MetricName,
    Preset,
    check_choice,
)
from stn3d.errors import InputError
from stn3d.registration.stages import DeformableStage, LinearStage, Stage


@dataclass(frozen=True)
class Settings:
    """All that decides the outcome of a registration, besides the images.

    Args:
        kind: the most general transform looked for; ``auto`` is ``rigid`` for one person's head in
            two contrasts, else ``deformable``, see `stn3d.registration.automatic`.
        metric: the similarity of the images, for all stages; ``auto`` is ``nmi`` for two contrasts,
            else ``lncc``, see `stn3d.registration.automatic`.
        deformable_metric: metric of the deformable stage; None for ``metric``, except where
            ``auto`` finds two MR contrasts, or one person's images changed by a contrast agent or
            by noise: ``gradient`` then.
        preset: what the stages' settings start from.
        init: the initial transform's method, or the path of a transform file.
        estimator: what finds the start and the dense field: ``optimiser``, ``network``, ``both``
            (the network, then the optimiser from there), or ``auto`` (the optimiser; where no plain
            guess of the start is good, the network makes one too). The linear stages in between
            are the optimiser's in any case.
        affine_weights: file of the network that finds starts; None for the one that is shipped.
        deformable_weights: file of the dense network; None for the one that is shipped.
        device: ``auto`` takes CUDA where there is one.
        threads: CPU threads; None leaves torch's choice.
        max_memory: GB that the process may take; a coarser finest level is chosen where it would
            take more. None is 80 % of what is free.
        channel_weights: weight of each channel in the metric, the image's own first. None: equal.
        label_weight: weight of the label-overlap loss relative to the image loss; 0: labels are
            only evaluated.
        landmark_weight: weight of the mean squared landmark distance, in units of 10 mm, relative
            to the image loss; 0: landmarks are only evaluated.
        seed: for whatever is drawn; the stages of today draw nothing.
        linear: steps of the rigid, similarity and affine stages.
        deformable: the deformable stage.
    """

    kind: Kind = "auto"
    metric: MetricChoice = "auto"
    deformable_metric: MetricName | None = None
    preset: Preset = "default"
    init: str = "auto"
    estimator: Estimator = "auto"
    affine_weights: str | None = None
    deformable_weights: str | None = None
    device: Device = "auto"
    threads: int | None = None
    max_memory: float | None = None
    channel_weights: tuple[float, ...] | None = None
    label_weight: float = 0.0
    landmark_weight: float = 1.0
    seed: int = 0
    linear: LinearSettings = dataclasses.field(default_factory=lambda: LinearSettings())
    deformable: DeformableStage = dataclasses.field(default_factory=lambda: DeformableStage())

    @property
    def metric_name(self) -> MetricName:
        """The metric, or what stands for one that is not chosen yet."""
        return "lncc" if self.metric == "auto" else self.metric

    @property
    def is_deformable(self) -> bool:
        """Whether there is, or may be, a dense stage."""
        return self.kind in ("auto", "deformable")

    def stages(self) -> list[Stage]:
        """The cascade: rigid, then affine, then dense, as far as the kind may go."""
        linear: list[LinearKind] = ["rigid"]
        if self.is_deformable or self.kind == "affine":
            linear.append("affine")
        elif self.kind == "similarity":
            linear.append("similarity")
        stages: list[Stage] = []
        for kind in linear:
            # Only the last word on the transform is worth the finer levels.
            last = kind == self.kind
            factors = self.linear.final_factors if last else self.linear.factors
            if kind != linear[-1]:
                factors = factors[:1]
            stages.append(
                LinearStage(
                    kind,
                    self.metric_name,
                    factors,
                    self.linear.iterations,
                    self.linear.radius_vox,
                    self.linear.tolerance,
                    self.linear.finest_spacing_mm if last else math.inf,
                    self.linear.restarts if last else 0,
                )
            )
        if self.is_deformable:
            metric = self.deformable_metric or self.metric_name
            stages.append(dataclasses.replace(self.deformable, metric=metric))
        return stages


@dataclass(frozen=True)
class LinearSettings:
    """Levels and effort of the linear stages; see `stn3d.registration.stages.LinearStage`.

    Args:
        factors: levels, in multiples of the finest spacing, where another stage follows.
        final_factors: levels where the linear transform is the answer.
        iterations: at most this many on each level.
        radius_vox: half the window of the local correlation, in voxels of the level.
        tolerance: a level ends when the loss changes by less, relatively.
        finest_spacing_mm: where the linear transform is the answer and the last level is coarser
            than this, finer ones follow as far as the images go.
        restarts: see `stn3d.registration.stages.LinearStage`; used where it is the answer.
    """

    factors: tuple[float, ...] = (8, 4)
    final_factors: tuple[float, ...] = (8, 4, 2)
    iterations: int = 50
    radius_vox: float = 2.0
    tolerance: float = 1e-6
    finest_spacing_mm: float = 2.0
    restarts: int = 0


PRESETS: dict[Preset, dict[str, Any]] = {
    "fast": {
        "linear": {"factors": (8,)},
        "deformable": {"factors": (8, 4, 2), "iterations": (10, 10, 6), "field_sigma_vox": 0.45},
    },
    "default": {},
    "accurate": {
        "linear": {"final_factors": (8, 4, 2, 1)},
        "deformable": {"iterations": (80, 80, 60, 25)},
    },
}


# What a metric needs instead. A histogram of the whole images tells little of each voxel, so the
# field must be smoother, and the finest level adds nothing.
_SMOOTHER = {"update_sigma_vox": 4.0, "field_sigma_vox": 0.7}
_BY_EDGES: dict[Preset, dict[str, Any]] = {
    "fast": {"deformable": {"factors": (8, 4, 2), "iterations": (20, 20, 10), **_SMOOTHER}},
    "default": {"deformable": {"factors": (8, 4, 2), "iterations": (80, 80, 40), **_SMOOTHER}},
    "accurate": {"deformable": {"iterations": (120, 120, 80, 25), **_SMOOTHER}},
}
BY_METRIC: dict[MetricName, dict[Preset, dict[str, Any]]] = {
    "nmi": {
        "fast": {
            "linear": {"factors": (8,), "restarts": 4},
            "deformable": {"factors": (8, 4, 2), "iterations": (20, 20, 10), **_SMOOTHER},
        },
        "default": {
            "linear": {"restarts": 4},
            "deformable": {"factors": (8, 4, 2), "iterations": (80, 80, 80), **_SMOOTHER},
        },
        "accurate": {
            "linear": {"final_factors": (8, 4, 2, 1), "restarts": 4},
            "deformable": {"iterations": (120, 120, 80, 25), **_SMOOTHER},
        },
    },
    "mind": _BY_EDGES,
    "gradient": _BY_EDGES,
}


def settings_from(
    options: Mapping[str, Any], config: str | os.PathLike[str] | Mapping[str, Any] | None = None
) -> Settings:
    """Settings from a preset (as its metric needs it), then a config, then options; the later wins.

    Args:
        options: keys of `Settings`; a value of None counts as not given.
        config: a YAML (or JSON) file of the same keys, or its mapping; ``linear`` and ``dense``
            hold mappings of their own.

    Raises:
        InputError: an unknown key (the nearest right one is named) or a value that does not fit.
    """
    given = {key: value for key, value in options.items() if value is not None}
    read = read_config(config)
    merged = {**read, **given}
    preset = merged.get("preset", "default")
    check_choice("preset", preset, Preset)
    metric = merged.get("metric", Settings.metric)
    linear, dense = (
        {**PRESETS[preset], **BY_METRIC.get(name, {}).get(preset, {})}
        for name in (metric, merged.get("deformable_metric") or metric)
    )
    base = {**linear, "deformable": dense.get("deformable", {})}
    return _build(Settings, {**merged, "preset": preset}, base, where="")


def read_config(config: str | os.PathLike[str] | Mapping[str, Any] | None) -> dict[str, Any]:
    """The keys of a config: of a YAML (or JSON) file, or of a mapping; none for None.

    Raises:
        InputError: the file cannot be read, or holds no keys.
    """
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return dict(config)
    path = Path(config)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf8"))
    except FileNotFoundError:
        raise InputError(f"there is no config {path}; check the path.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the config {path} cannot be read as YAML or JSON: {reason}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"the config {path} holds no keys; write lines such as 'kind: affine'.")
    return content


def _build(cls: type, values: Mapping[str, Any], base: Mapping[str, Any], where: str) -> Any:
    """A settings dataclass from values over a base; both may hold mappings for nested ones."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hidden = {"metric"} if cls is DeformableStage else set()
    defaults = cls()
    chosen: dict[str, Any] = {}
    values = {key: value for key, value in values.items() if value is not None or key not in fields}
    for key in {**base, **values}:
        if key not in fields or key in hidden:
            near = difflib.get_close_matches(str(key), sorted(set(fields) - hidden), 1, 0)
            raise InputError(f"unknown setting {where}{key}; did you mean {where}{near[0]}?")
        default = getattr(defaults, key)
        value = values.get(key, base.get(key))
        if dataclasses.is_dataclass(default):
            if not isinstance(value, Mapping):
                raise InputError(f"the setting {where}{key} holds keys of its own; indent them.")
            inner = values.get(key, {})
            chosen[key] = _build(type(default), inner, base.get(key, {}), f"{where}{key}.")
        else:
            chosen[key] = _fitting(f"{where}{key}", value, default)
    if cls is Settings:
        choices = {
            "kind": Kind,
            "metric": MetricChoice,
            "estimator": Estimator,
            "device": Device,
        }
        for key, choice in choices.items():
            check_choice(key, chosen.get(key, getattr(defaults, key)), choice)
        if chosen.get("deformable_metric") is not None:
            check_choice("deformable_metric", chosen["deformable_metric"], MetricName)
        if chosen.get("channel_weights") is not None:
            chosen["channel_weights"] = _weights(chosen["channel_weights"])
        if chosen.get("threads") is not None:
            chosen["threads"] = _fitting("threads", chosen["threads"], 1)
        if chosen.get("max_memory") is not None:
            chosen["max_memory"] = _fitting("max_memory", chosen["max_memory"], 1.0)
    made = cls(**chosen)
    if isinstance(made, Settings):
        dense = dataclasses.replace(
            made.deformable, metric=made.deformable_metric or made.metric_name
        )
        made = dataclasses.replace(made, deformable=dense)
    if isinstance(made, DeformableStage) and len(made.iterations) < len(made.factors):
        raise InputError(
            f"deformable.factors has {len(made.factors)} levels and deformable.iterations "
            f"{len(made.iterations)}; give a number of iterations for each level."
        )
    return made


def _fitting(name: str, value: Any, default: Any) -> Any:
    """The value in the default's type, if it is a number, text or a list of numbers that fits."""
    if default is None or isinstance(default, str):
        return value if default is None else str(value)
    number = _is_number(value)
    if isinstance(default, tuple):
        items = value if isinstance(value, list | tuple) else [value]
        whole = name.endswith("iterations")
        if items and all(
            _is_number(v) and v > 0 and (not whole or float(v).is_integer()) for v in items
        ):
            return tuple(int(v) if whole else v for v in items)
        kind = "whole numbers" if whole else "numbers"
        raise InputError(f"the setting {name} is {value!r}; give a list of positive {kind}.")
    if isinstance(default, int) and number and float(value).is_integer() and value >= 0:
        if name not in ("seed", "linear.restarts") and value == 0:
            raise InputError(f"the setting {name} is 0; give at least 1.")
        return int(value)
    if isinstance(default, float) and number and value >= 0:
        return float(value)
    kind = "a whole number" if isinstance(default, int) else "a number"
    raise InputError(f"the setting {name} is {value!r}; give {kind}, not negative.")


def _weights(value: Any) -> tuple[float, ...] | None:
    """Channel weights, each from 0 upward; None if there are none."""
    items = value if isinstance(value, list | tuple) else [value]
    for weight in items:
        if not (_is_number(weight) and weight >= 0):
            raise InputError(f"a channel weight is {weight!r}; give a number from 0 upward.")
    if items and not any(items):
        raise InputError("all channel weights are 0; give one above 0.")
    return tuple(float(weight) for weight in items) or None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
