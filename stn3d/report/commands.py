"""Command lines for a page: what repeats the registration, and what opens its files elsewhere."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from stn3d.errors import InputError
from stn3d.registration.settings import Settings, settings_from
from stn3d.report.case import ReportCase

# Settings that are options of the command line, and their option.
_OPTIONS = {
    "kind": "--kind",
    "metric": "--metric",
    "preset": "--preset",
    "init": "--init",
    "estimator": "--estimator",
    "deformable_weights": "--deformable-weights",
    "features": "--features",
    "structures": "--structures",
    "large_motion": "--large-motion",
    "uncertainty": "--uncertainty",
    "label_weight": "--label-weight",
    "landmark_weight": "--landmark-weight",
    "fill": "--fill",
    "device": "--device",
    "threads": "--threads",
    "max_memory": "--max-memory",
    "seed": "--seed",
}
_SOURCES = {
    "mask": "mask",
    "exclude": "exclude",
    "labels": "labels",
    "landmarks": "points",
    "window": "window",
    "volume": "volume",
    "colour": "colour",
}


def repeating_command(metrics: Mapping[str, Any], out: str) -> str | None:
    """The command that repeats a registration.

    Args:
        metrics: content of metrics.json.
        out: folder for the results.

    Returns:
        A command line for a POSIX shell; None if an input or the deformable network was given in
        memory, so that no file holds it.
    """
    sources = [metrics[role].get("sources") for role in ("fixed", "moving")]
    if any(one is None or None in (one["image"], *one["channels"]) for one in sources):
        return None
    words = ["stn3d", "register", *(one["image"] for one in sources), "--out", out]
    for role, given in zip(("fixed", "moving"), sources, strict=True):
        for key, option in _SOURCES.items():
            if key in given["in_memory"]:
                return None
            value = metrics[role]["window"] if key == "window" else given.get(key)
            if value is not None:
                words += [f"--{role}-{option}", str(value)]
        for path in given["channels"]:
            words += [f"--{role}-channel", path]
    settings = metrics["settings"]
    if settings["init"] == "given" or _lacks_network(settings, metrics["auto_selected"]):
        return None
    words += _settings(settings, metrics["auto_selected"])
    config = _finer(settings, metrics["auto_selected"])
    if not config:
        return shlex.join(words)
    written = f"echo {shlex.quote(json.dumps(config))} > settings.json"
    return f"{written} && {shlex.join([*words, '--config', 'settings.json'])}"


def _lacks_network(used: Mapping[str, Any], selected: Mapping[str, Any]) -> bool:
    """Whether a registration needs a deformable network and no file of one is known."""
    may_deform = used["kind"] == "deformable" or "kind" in selected
    needs_one = used["estimator"] in ("network", "both") and may_deform
    return needs_one and used["deformable_weights"] is None


def _settings(used: Mapping[str, Any], selected: Mapping[str, Any]) -> Iterator[str]:
    """Options of all settings that are neither defaults nor selected automatically."""
    chosen = {key: used[key] for key in _OPTIONS if key not in selected}
    base = dataclasses.asdict(Settings())
    for key, value in chosen.items():
        if value != base[key]:
            yield _OPTIONS[key]
            if not isinstance(value, bool):
                yield f"{value:g}" if isinstance(value, float) else str(value)
    for weight in used["channel_weights"] or ():
        yield "--channel-weight"
        yield f"{weight:g}"


def _finer(used: Mapping[str, Any], selected: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without an option that differ from those of the preset and the metric."""
    picked = {"preset": used["preset"], "metric": used["metric"]}
    picked["deformable_metric"] = used["deformable_metric"]
    try:
        base = json.loads(json.dumps(dataclasses.asdict(settings_from(picked))))
    except InputError:  # of another version
        return {}
    config: dict[str, Any] = {}
    for stage in ("linear", "discrete", "deformable"):
        own = {
            key: value
            for key, value in used[stage].items()
            if (stage, key) != ("deformable", "metric")
            and base[stage].get(key) != (list(value) if isinstance(value, tuple) else value)
        }
        config |= {stage: own} if own else {}
    for key in ("affine_weights", "deformable_metric"):
        automatic = key == "deformable_metric" and "metric" in selected
        if used[key] is not None and not automatic:
            config[key] = used[key]
    return config


def commands_of(case: ReportCase) -> list[tuple[str, str, str]]:
    """Title, command and note of everything that a page offers to copy, to run in its folder."""
    images = [_path_of(case.metrics[role], f"{role}.nii.gz") for role in ("fixed", "moving")]
    moved, transform = (
        case.files.get(key, name)
        for key, name in (("moved", "moved.nii.gz"), ("transform", "transform.h5"))
    )
    fixed, moving = images
    ants = ["antsApplyTransforms", "-d", str(case.fixed.grid.ndim), "-i", moving, "-r", fixed]
    warped = ["stn3d", "apply", transform, "IMAGE", "--like", fixed, "--out", "moved_image.nii.gz"]
    slicer = ["Slicer", "--python-code", _slicer(fixed, moving, transform)]
    repeat = repeating_command(case.metrics, "repeated")
    shown = [("Repeat this registration", repeat, "")] if repeat is not None else []
    overlay = ["fsleyes", fixed, moved, "-cm", "red-yellow", "-a", "50"]
    return [
        *shown,
        ("ITK-SNAP", shlex.join(["itksnap", "-g", fixed, "-o", moved]), "fixed and moved image"),
        ("FSLeyes", shlex.join(overlay), "fixed and moved image"),
        ("3D Slicer", shlex.join(slicer), "the moving image under its transform"),
        (
            "ANTs",
            shlex.join([*ants, "-t", transform, "-o", "moved_by_ants.nii.gz"]),
            "warps the moving image, or any image in its space",
        ),
        ("stn3d", shlex.join(warped), "warps another image or label map to fixed space"),
    ]


def _path_of(side: Mapping[str, Any], name: str) -> str:
    """Path of an image, or a name that stands for an image in memory."""
    path = (side.get("sources") or {}).get("image")
    return str(path) if path else name


def _slicer(fixed: str, moving: str, transform: str) -> str:
    # strings of JSON are strings of Python, in double quotes, which single quotes of a shell keep
    return "; ".join(
        [
            f"f = slicer.util.loadVolume({json.dumps(fixed)})",
            f"m = slicer.util.loadVolume({json.dumps(moving)})",
            f"t = slicer.util.loadTransform({json.dumps(transform)})",
            "m.SetAndObserveTransformNodeID(t.GetID())",
            "slicer.util.setSliceViewerLayers(background=f, foreground=m, foregroundOpacity=0.5)",
        ]
    )
