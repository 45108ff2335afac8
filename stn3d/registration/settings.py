"""Settings of a registration: kind, metric, preset, initial transform and the stages."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stn3d.choices import (
    AUTOMATIC,
    Estimator,
    Features,
    Kind,
    LargeMotionChoice,
    LinearKind,
    MetricChoice,
    MetricName,
    Preset,
    Structures,
    check_choice,
    check_device,
    check_known,
    fill_choice,
)
from stn3d.errors import InputError, shown_text
from stn3d.io.texts import parse_yaml, read_text
from stn3d.losses.similarity import METRICS
from stn3d.registration.stages import (
    DeformableStage,
    DiscreteStage,
    LinearSettings,
    OptimiserStage,
)
from stn3d.registration.validation import (
    channel_weights,
    check_fields,
    check_large_motion,
    check_seed,
)

_MOST_CONFIG_MB = 1

PRESETS: dict[Preset, dict[str, dict[str, Any]]] = {
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
"""By preset: settings of the stages that differ from their defaults. A metric may replace them."""


@dataclass(frozen=True)
class Settings:
    """Everything besides the images that determines the result of a registration.

    Args:
        kind: Most general kind of transform. ``auto`` selects ``rigid`` for one person's head in
            different contrasts and else ``deformable``, see `stn3d.registration.automatic`.
        metric: Metric of the images in all stages. ``auto`` selects one for images of the same or
            of different contrast, see `stn3d.registration.automatic`.
        deformable_metric: Metric of the deformable stage. None for ``metric``; where that is
            ``auto``, the selection may choose another one for this stage.
        preset: Trade-off between speed and accuracy: the stages' settings unless given below.
        init: Method of the initial transform, or the path of a transform file.
        estimator: What estimates the initial transform and the displacement field: ``optimiser``,
            ``network``, ``both`` (the network, then the optimiser from there), or ``auto`` (the
            optimiser; the network adds an initial transform where no simple one is good). The
            linear stages always use the optimiser.
        features: What the deformable stage compares in heads of two subjects and contrasts:
            ``auto`` (white and grey matter as the segmentation network finds them, where it knows
            both images, see `stn3d.registration.features`) or ``none`` (the images alone).
        structures: When the quality check compares the structures of two heads: ``auto`` (where
            they do not show the same contrast, unless features are ``none``) or ``always``, see
            `stn3d.registration.structures`.
        large_motion: Whether a discrete search over displacements precedes the deformable stage:
            ``on``, ``off``, or ``auto`` (where a coarse search displaces much of the image by more
            than the deformable stage reaches, see `stn3d.registration.large_motion`).
        uncertainty: Whether to estimate the registration error at every voxel, see
            `stn3d.registration.uncertainty`.
        affine_weights: Weights file of the network for the initial transform; None for the bundled
            one.
        deformable_weights: Weights file of the network for the displacement field, which the
            estimators ``network`` and ``both`` need; the package has none.
        device: ``auto`` (CUDA if it is available), ``cpu``, ``cuda`` or ``cuda:N``.
        threads: Number of CPU threads; None for PyTorch's choice.
        max_memory: Memory limit of the process in GB; the finest level is coarsened to meet it.
            None for 80 % of the free memory.
        channel_weights: Weight of each channel in the metric, the image's own first; None for equal
            weights.
        label_weight: Weight of the label-overlap loss relative to the image loss; 0 to only
            evaluate the labels.
        landmark_weight: Weight of the landmarks' mean squared distance in units of 10 mm for a head
            (10 length units, see `stn3d.length_unit`), relative to the image loss; 0 to only
            evaluate the landmarks.
        fill: Value of the moved image where the moving image shows nothing: ``auto`` (background
            for CT, else 0), ``background``, ``nan`` or a number.
        seed: Seed of the random number generator; the present stages draw no random numbers.
        linear: Settings of the rigid, similarity and affine stages.
        discrete: The discrete search for large displacements.
        deformable: The deformable stage.

    Raises:
        InputError: A value does not fit.
    """

    kind: Kind = "auto"
    metric: MetricChoice = "auto"
    deformable_metric: MetricName | None = None
    preset: Preset = "default"
    init: str = "auto"
    estimator: Estimator = "auto"
    features: Features = "auto"
    structures: Structures = "auto"
    large_motion: LargeMotionChoice = "auto"
    uncertainty: bool = False
    affine_weights: str | None = None
    deformable_weights: str | None = None
    device: str = "auto"
    threads: int | None = None
    max_memory: float | None = None
    channel_weights: tuple[float, ...] | None = None
    label_weight: float = 0.0
    landmark_weight: float = 1.0
    fill: str = "auto"
    seed: int = 0
    linear: LinearSettings = field(default_factory=LinearSettings)
    discrete: DiscreteStage = field(default_factory=DiscreteStage)
    deformable: DeformableStage = field(default_factory=DeformableStage)

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, Kind)
        check_known("metric", self.metric, ("auto", *METRICS))
        if self.deformable_metric is not None:
            check_known("deformable_metric", self.deformable_metric, tuple(METRICS))
        check_choice("preset", self.preset, Preset)
        check_choice("estimator", self.estimator, Estimator)
        check_choice("features", self.features, Features)
        check_choice("structures", self.structures, Structures)
        check_choice("large_motion", self.large_motion, LargeMotionChoice)
        object.__setattr__(self, "device", str(self.device))  # also a torch.device
        check_device(self.device)
        object.__setattr__(self, "fill", f"{fill_choice(self.fill)}")
        check_seed(self.seed)
        check_fields(self, skip=["channel_weights", "seed"])
        if self.channel_weights is not None:
            weights = channel_weights(self.channel_weights)
            object.__setattr__(self, "channel_weights", weights)
        metric = self.deformable_metric or self.metric_name
        in_units = METRICS[metric].needs_many_voxels
        stage = dataclasses.replace(self.deformable, metric=metric, in_units=in_units)
        object.__setattr__(self, "init", str(self.init))
        object.__setattr__(self, "deformable", stage)

    @property
    def metric_name(self) -> MetricName:
        """The metric, or the one for images of the same contrast while none is selected."""
        return AUTOMATIC.same if self.metric == "auto" else self.metric

    @property
    def is_deformable(self) -> bool:
        """Whether there is, or may be, a deformable stage."""
        return self.kind in ("auto", "deformable")

    @property
    def linear_kind(self) -> LinearKind:
        """The kind of the linear transform that is estimated, before any deformable stage."""
        if self.kind == "auto" or self.kind == "deformable":
            return "affine"
        return self.kind

    def stages(self) -> list[OptimiserStage]:
        """The cascade: rigid, then similarity or affine, then deformable, as the kind requires.

        The discrete search is among them where ``large_motion`` is ``on``.
        """
        kinds: list[LinearKind] = ["rigid"]
        if self.is_deformable or self.kind == "affine":
            kinds.append("affine")
        elif self.kind == "similarity":
            kinds.append("similarity")
        linear = self.linear.stages(kinds, self.metric_name, final=not self.is_deformable)
        if not self.is_deformable:
            return [*linear]
        search = [self.discrete] if self.large_motion == "on" else []
        return [*linear, *search, self.deformable]

    def coarser(self) -> Iterator[Settings]:
        """These settings with ever coarser finest levels of the last stage, down to one level."""
        if self.is_deformable:
            for stage in self.deformable.coarser():
                yield dataclasses.replace(self, deformable=stage)
        else:
            for linear in self.linear.coarser():
                yield dataclasses.replace(self, linear=linear)


def settings_from(
    options: Mapping[str, Any], config: str | os.PathLike[str] | Mapping[str, Any] | None = None
) -> Settings:
    """Settings from a preset (as its metric needs it), then a config, then options; the later wins.

    Args:
        options: Keys of `Settings`; None means not given.
        config: YAML or JSON file of the same keys, or a mapping of them; ``linear`` and
            ``deformable`` hold mappings of their own.

    Raises:
        InputError: A key is unknown (the message suggests the closest one), or a value does not
            fit.
    """
    given = {key: value for key, value in options.items() if value is not None}
    merged = {**read_config(config), **given}
    preset = merged.get("preset", Settings.preset)
    check_choice("preset", preset, Preset)
    metric = merged.get("metric", Settings.metric)
    linear = _stage_settings(preset, metric)
    deformable = _stage_settings(preset, merged.get("deformable_metric") or metric)
    base = {
        "preset": preset,
        "linear": linear.get("linear", {}),
        "deformable": deformable.get("deformable", {}),
    }
    settings: Settings = _build(Settings, merged, base)
    check_large_motion(settings.large_motion, settings.kind, settings.estimator)
    return settings


def _stage_settings(preset: Preset, metric: str) -> Mapping[str, Mapping[str, Any]]:
    """Settings of the stages in a preset, as a metric needs them; of any metric for ``auto``."""
    own = next((one.stage_settings for name, one in METRICS.items() if name == metric), {})
    return {**PRESETS[preset], **own.get(preset, {})}


def read_config(config: str | os.PathLike[str] | Mapping[str, Any] | None) -> dict[str, Any]:
    """The keys of a config.

    Args:
        config: YAML or JSON file, or a mapping; None for no keys.

    Raises:
        InputError: The file cannot be read, or holds no keys.
    """
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return dict(config)
    path = Path(config)
    text = read_text(path, "config", "write lines such as 'kind: affine'", _MOST_CONFIG_MB)
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise InputError(f"the config {path} cannot be read as YAML or JSON: {error}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"the config {path} holds no keys; write lines such as 'kind: affine'.")
    return content


def _build(cls: type, values: Mapping[str, Any], base: Mapping[str, Any], where: str = "") -> Any:
    """A settings dataclass from values over a base; both may hold mappings for nested ones."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    chosen: dict[str, Any] = {}
    for key, value in {**base, **values}.items():
        if key not in fields or key in _HIDDEN.get(cls, ()):
            known = sorted(set(fields) - _HIDDEN.get(cls, set()))
            name = shown_text(key)
            near = difflib.get_close_matches(name, known, 1, 0)
            raise InputError(f"unknown setting {where}{name}; did you mean {where}{near[0]}?")
        nested = _NESTED.get(key) if cls is Settings else None
        if nested is not None:
            if value is not None and not isinstance(value, Mapping):
                raise InputError(f"the setting {where}{key} holds keys of its own; indent them.")
            chosen[key] = _build(nested, values.get(key) or {}, base.get(key, {}), f"{where}{key}.")
        elif value is not None:
            chosen[key] = value
        elif key in base:
            chosen[key] = base[key]
    return cls(**chosen)


_NESTED: dict[str, type] = {
    "linear": LinearSettings,
    "discrete": DiscreteStage,
    "deformable": DeformableStage,
}
_HIDDEN: dict[type, set[str]] = {DeformableStage: {"metric", "in_units"}}  # set by `Settings`
