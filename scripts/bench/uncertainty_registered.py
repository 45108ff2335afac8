"""Registrations of the study of uncertainty, kept so that cues can change without them."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stn3d
from scripts.bench.uncertainty_cases import Case
from stn3d import Transform
from stn3d.errors import InputError
from stn3d.io import read_transform, write_transform
from stn3d.registration.settings import Settings, settings_from


@dataclass(frozen=True, eq=False)
class Registered:
    """The result of registering a case.

    Args:
        about: ``quality`` and ``wall_s``; ``refused`` alone if the images were refused.
        transform: fixed points to moving points; None if the images were refused.
        metrics: names of the metrics of the linear and of the deformable stage.
    """

    about: dict[str, Any]
    transform: Transform | None = None
    metrics: tuple[str, str | None] = ("", None)

    @property
    def settings(self) -> Settings:
        """Settings with these metrics."""
        metric, deformable = self.metrics
        return settings_from(
            {"preset": "fast", "metric": metric, "deformable_metric": deformable},
        )


def registered(case: Case, number: int, work: Path) -> Registered:
    """The registration of a case, from the folder if it is there.

    Args:
        case: the case.
        number: its number.
        work: folder where results are kept.
    """
    path = work / "registered" / f"{number:04d}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = _register(case, path.with_suffix(".h5"))
        path.write_text(json.dumps(found), encoding="utf-8")
    found = json.loads(path.read_text(encoding="utf-8"))
    if "refused" in found:
        return Registered(found)
    metrics = found.pop("metrics")
    return Registered(found, read_transform(path.with_suffix(".h5")), tuple(metrics))


def _register(case: Case, path: Path) -> dict[str, Any]:
    fixed, moving = ((v[0, 0], grid) for v, grid in (case.fixed, case.moving))
    begin = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = stn3d.register(fixed, moving, **case.options)
    except InputError as error:
        return {"refused": str(error)}
    wall_s = round(time.perf_counter() - begin, 1)
    write_transform(path, found.transform)
    used = found.metrics["settings"]
    metrics = used["metric"], used["deformable_metric"]
    return {"quality": found.metrics["quality"], "wall_s": wall_s, "metrics": metrics}
