"""Options of the settings of a registration, which several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, get_type_hints

from stn3d.cli import file_options, options

SETTINGS: dict[str, Any] = {
    "kind": options.Kind,
    "metric": options.Metric,
    "preset": options.Preset,
    "init": options.Init,
    "estimator": options.Estimator,
    "deformable_weights": options.DeformableWeights,
    "features": options.Features,
    "structures": options.Structures,
    "large_motion": options.LargeMotion,
    "uncertainty": file_options.Uncertainty,
    "config": options.Config,
    "fill": options.RegisterFill,
    "label_weight": options.LabelWeight,
    "landmark_weight": options.LandmarkWeight,
    "device": options.Device,
    "threads": options.Threads,
    "max_memory": options.MaxMemory,
    "seed": options.Seed,
}
"""Arguments of `stn3d.register` and their options; None means not given."""


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command with an option for each of `SETTINGS`.

    Args:
        command: takes the values as one dictionary, ``settings``; the options have the place of
            that parameter in the help.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind = inspect.Parameter.KEYWORD_ONLY
        if name == "settings":
            shared = SETTINGS.items()
            parameters += [
                inspect.Parameter(one, kind, default=None, annotation=option)
                for one, option in shared
            ]
        else:
            parameters.append(parameter.replace(kind=kind, annotation=hints[name]))

    @wraps(command)
    def run(**given: Any) -> None:
        settings = {name: given.pop(name) for name in SETTINGS}
        command(**given, settings=settings)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run
