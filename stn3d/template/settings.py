"""Settings of a template."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from stn3d.choices import (
    AUTOMATIC,
    LargeMotionChoice,
    MetricChoice,
    Preset,
    check_choice,
    check_known,
)
from stn3d.errors import InputError
from stn3d.losses.similarity import METRICS
from stn3d.registration.settings import read_config, settings_from


@dataclass(frozen=True, kw_only=True)
class TemplateSettings:
    """Everything besides the images that determines a template.

    Args:
        iterations: number of times the template is updated after the affine mean.
        preset: preset of the last iteration and of the final registrations; earlier iterations use
            ``fast``.
        metric: similarity metric of all registrations.
        symmetric: make the template symmetric: each image takes part with its mirror image.
        spacing_mm: edge length of the template's voxels. Default: the median over the images of the
            cube root of the voxel volume (the square root of the area in 2D).
        sharpening: strength of the unsharp mask on the mean image. Default: 0, none, with which
            registrations through the template are more accurate.
        large_motion: ``on``, ``off`` or ``auto``: whether a discrete search precedes the
            deformable stage of the registrations. Default: that of the config, else ``auto``.
        config: YAML file or mapping with further settings of the registrations.
        threads: number of CPU threads, shared by the jobs. Default: PyTorch's.
        jobs: number of registrations at a time, each in a process of its own.
        max_memory: memory limit of each process in GB.

    Raises:
        InputError: a value does not fit.
    """

    iterations: int = 4
    preset: Preset = "default"
    metric: MetricChoice = AUTOMATIC.same
    symmetric: bool = False
    spacing_mm: float | None = None
    sharpening: float = 0.0
    large_motion: LargeMotionChoice | None = None
    config: str | os.PathLike[str] | dict[str, Any] | None = None
    threads: int | None = None
    jobs: int = 1
    max_memory: float | None = None

    def __post_init__(self) -> None:
        check_choice("preset", self.preset, Preset)
        check_known("metric", self.metric, ("auto", *METRICS))
        least: tuple[tuple[str, float | None, float], ...] = (
            ("iterations", self.iterations, 1),
            ("sharpening", self.sharpening, 0),
            ("threads", self.threads, 1),
            ("jobs", self.jobs, 1),
        )
        for name, value, low in least:
            if value is not None and not value >= low:
                raise InputError(f"the setting {name} is {value:g}; give at least {low:g}.")
        if self.spacing_mm is not None and not 0 < self.spacing_mm < float("inf"):
            raise InputError(
                f"the setting spacing is {self.spacing_mm:g}; give a positive length in mm."
            )
        settings_from(self.registration(self.preset, "deformable"), self.further)

    @property
    def further(self) -> dict[str, Any]:
        """The settings of the config."""
        return dict(read_config(self.config))

    def registration(self, preset: Preset, kind: str) -> dict[str, Any]:
        """Arguments of `stn3d.register`.

        Args:
            preset: preset of the stages.
            kind: kind of transform.
        """
        options = {"kind": kind, "preset": preset, "metric": self.metric, "estimator": "optimiser"}
        if kind != "deformable":
            return {**options, "large_motion": "off"}
        return (
            options if self.large_motion is None else {**options, "large_motion": self.large_motion}
        )

    def metrics(self) -> dict[str, Any]:
        """The settings that determine the result, for template.json."""
        found = dataclasses.asdict(self)
        for name in ("threads", "jobs", "max_memory", "config"):
            del found[name]
        return {**found, "config": self.further}
