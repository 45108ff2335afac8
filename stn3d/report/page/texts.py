"""The words and numbers of a page, from metrics.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from stn3d.losses.similarity import METRICS
from stn3d.report.case import ReportCase
from stn3d.report.commands import commands_of
from stn3d.report.convergence import levels_of

# Key, name, format, and whether higher (+1) or lower (-1) is better.
_COMPARED = (
    ("correlation", "Correlation", ".4f", 1),
    ("local_correlation", "Local correlation", ".4f", 1),
    ("dice", "Dice, mean over labels", ".4f", 1),
    ("hd95_mm", "HD95, mean over labels, mm", ".3g", -1),
    ("assd_mm", "ASSD, mean over labels, mm", ".3g", -1),
    ("tre_mm", "Landmark error (TRE), mean, mm", ".3g", -1),
    ("fov_overlap_pct", "Field-of-view overlap, %", ".1f", 0),
)
_AFTER = (
    ("folding_pct", "Folded voxels, %", ".3g"),
    ("log_jacobian_sd", "SD of log-Jacobian", ".3f"),
    ("jacobian_min", "Smallest Jacobian determinant", ".3g"),
    ("jacobian_max", "Largest Jacobian determinant", ".3g"),
    ("inverse_consistency_error_mm", "Inverse-consistency error, mean, mm", ".2g"),
)
_REGIONS = {
    "mask": "the fixed mask",
    "foreground": "the foreground of the fixed image",
    "image": "the whole fixed image",
}
_WHAT = {
    "slices": "Slices",
    "metric": "Metric",
    "kind": "Kind of transform",
    "features": "Features",
    "large_motion": "Large motion",
    "region": "Region",
}
_STATUSES = ("good", "check", "failed")
_NONE = "\N{EN DASH}"


def texts_content(case: ReportCase) -> dict[str, Any]:
    """Everything on a page that is text; see report.html.j2 for the names."""
    metrics = case.metrics
    return {
        "status": _status(metrics["quality"]),
        "fixed": _names(metrics["fixed"]),
        "moving": _names(metrics["moving"]),
        "facts": _facts(case),
        "metrics": _rows(metrics),
        "region": _region(metrics["after"].get("region")),
        "labels": _labels(metrics),
        "landmarks": _landmarks(case),
        "choices": _choices(metrics),
        "levels": [_level(one) for one in levels_of(metrics["stages"])],
        "times": [(name, f"{seconds:.2f}") for name, seconds in metrics["timings_s"].items()],
        "commands": commands_of(case),
        "settings": json.dumps(metrics["settings"], indent=2),
        "versions": [*metrics["versions"].items(), ("device", metrics["device"])],
        "footer": f"Made by stn3d {metrics['versions'].get('stn3d', '')} from metrics.json and the "
        "images; positions are world RAS+ mm, left is left.",
    }


def _status(quality: Mapping[str, Any]) -> dict[str, Any]:
    word = quality["status"] if quality["status"] in _STATUSES else "check"
    return {
        "word": word,
        "reason": _sentence(str(quality["reason"])),
        "suggestion": _sentence(quality.get("suggestion") or ""),
        "warnings": [_sentence(str(one)) for one in quality.get("warnings") or ()],
    }


def _sentence(text: str) -> str:
    """Text with a capital at the start and a full stop at the end."""
    return text[:1].upper() + text[1:] + ("." if text and not text.endswith(".") else "")


def _names(side: Mapping[str, Any]) -> dict[str, str]:
    return {"name": str(side["name"]), "short": PurePath(str(side["name"])).name or "image"}


def _facts(case: ReportCase) -> list[tuple[str, str]]:
    metrics = case.metrics
    settings = metrics["settings"]
    metric = settings["metric"]
    other = settings["deformable_metric"]
    seconds = sum(metrics["timings_s"].values())
    shapes = [_sizes(metrics[role]["shape"], "d") for role in ("fixed", "moving")]
    spacings = [_sizes(metrics[role]["spacing_mm"], ".3g") for role in ("fixed", "moving")]
    return [
        ("kind", settings["kind"]),
        ("metric", metric if other in (None, metric) else f"{metric}, then {other}"),
        ("preset", settings["preset"]),
        ("time", f"{seconds:.1f} s on {metrics['threads']} threads"),
        ("fixed image", f"{shapes[0]} at {spacings[0]} mm"),
        ("moving image", f"{shapes[1]} at {spacings[1]} mm"),
    ]


def _sizes(values: Sequence[float], form: str) -> str:
    """Sizes along the axes, one for all that are equal."""
    texts = [format(value, form) for value in values]
    return texts[0] if form != "d" and len(set(texts)) == 1 else " x ".join(texts)


def _rows(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    metric = METRICS.get(metrics["settings"]["metric"])
    same_contrast = metric is not None and metric.contrast == "same"  # else it says little
    for key, name, form, sign in _COMPARED:
        before, after = (_mean(metrics[when].get(key)) for when in ("before", "after"))
        if before is None and after is None:
            continue
        sign = 0 if "correlation" in key and not same_contrast else sign
        change = ""
        if sign and before is not None and after is not None and before != after:
            change = "better" if (after - before) * sign > 0 else "worse"
        rows.append(
            {
                "name": name,
                "before": _text(before, form),
                "after": _text(after, form),
                "change": change,
            }
        )
    loss = {when: metrics[when].get("image_loss") for when in ("before", "after")}
    if loss["before"] and loss["after"]:
        values = [loss[when]["value"] for when in ("before", "after")]
        change = "" if values[0] == values[1] else "better" if values[1] < values[0] else "worse"
        name = f"Image loss ({loss['after']['metric']}, {loss['after']['spacing_mm']:.3g} mm)"
        texts = [_text(value, ".4f") for value in values]
        rows.append({"name": name, "before": texts[0], "after": texts[1], "change": change})
    for key, name, form in _AFTER:
        value = _mean(metrics["after"].get(key))
        if value is not None:
            rows.append({"name": name, "before": "", "after": _text(value, form), "change": ""})
    return rows


def _mean(value: Any) -> float | None:
    if isinstance(value, Mapping):
        value = value.get("mean")
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _text(value: float | None, form: str) -> str:
    return _NONE if value is None else format(value + 0.0, form)


def _region(region: Mapping[str, Any] | None) -> str:
    if not region:
        return ""
    name = _REGIONS.get(region["name"], region["name"])
    voxels = f"{region['voxels']:,} voxels"
    return (
        f"Image and Jacobian metrics in {name}, {voxels}. Green is better than before, red worse."
    )


def _labels(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    before, after = (metrics[when].get("labels") or {} for when in ("before", "after"))
    return [
        {
            "name": label,
            "before": _text(before.get(label, {}).get("dice"), ".3f"),
            "after": _text(one.get("dice"), ".3f"),
            "hd95": _text(one.get("hd95_mm"), ".3g"),
        }
        for label, one in after.items()
    ]


def _landmarks(case: ReportCase) -> list[dict[str, Any]]:
    sides = [side.landmarks_mm for side in case.sides]
    if sides[0] is None or sides[1] is None:
        return []
    fixed, moving = (points.double() for points in sides if points is not None)
    before = (fixed - moving).norm(dim=1).tolist()
    after = (case.transform.forward(fixed) - moving).norm(dim=1).tolist()
    return [
        {"number": n + 1, "before": f"{b:.3g}", "after": f"{a:.3g}"}
        for n, (b, a) in enumerate(zip(before, after, strict=True))
    ]


def _choices(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was selected, and why."""
    found = []
    for what, one in metrics["auto_selected"].items():
        choice = one["choice"]
        if one.get("deformable_metric") not in (None, choice):
            choice += f", then {one['deformable_metric']}"
        found.append(
            (f"{_WHAT.get(what, what)}: {choice}", f"Selected automatically: {one['reason']}.")
        )
    settings = metrics["settings"]
    for what in ("kind", "metric"):
        if what not in metrics["auto_selected"]:
            found.append((f"{_WHAT[what]}: {settings[what]}", "As given."))
    candidates = metrics["initial_candidates"]
    if candidates:
        best, *others = (one["name"].replace("_", " ") for one in candidates)
        names = ", ".join(dict.fromkeys(name for name in others if name != best))
        why = (
            f"Best of {len(candidates)} initial transforms; also tried: {names}."
            if names
            else "The only initial transform tried."
        )
        found.append((f"Start: {best}", why))
    if metrics["linear_parameters"]:
        found.append(("Linear part", _linear(metrics["linear_parameters"])))
    for note in (metrics["geometry"]["note"], metrics["memory"]["note"]):
        if note:
            found.append(("Note", note))
    for role, one in metrics["excluded_regions"].items():
        found.append((f"Excluded region of the {role} image", _excluded(one)))
    if metrics["used_in_optimisation"]:
        used = " and ".join(metrics["used_in_optimisation"])
        found.append(
            (
                f"{used.capitalize()} guided the registration",
                "Their metrics are not an independent test.",
            )
        )
    return found


def _linear(parameters: Mapping[str, Any]) -> str:
    def listed(key: str, form: str) -> str:
        return ", ".join(f"{format(value + 0.0, form)}" for value in parameters[key].values())

    rotation, shift = listed("rotation_deg", ".1f"), listed("translation_mm", ".1f")
    scales, shears = listed("scales", ".3f"), listed("shears", ".3f")
    text = f"Rotation {rotation}\N{DEGREE SIGN}; translation {shift} mm; scales {scales}"
    return f"{text}; shears {shears}." if shears else f"{text}."


def _excluded(one: Mapping[str, Any]) -> str:
    change = _text(one["volume_change_pct"], "+.1f")
    around = _text(one["surrounding_volume_change_pct"], "+.1f")
    volumes = f"{one['volume_ml']:.3g} ml, afterwards {one['volume_after_ml']:.3g} ml"
    return f"{volumes} ({change} %); the tissue around it changes by {around} %."


def _level(level: Any) -> dict[str, Any]:
    return {
        "stage": level.stage,
        "spacing_mm": f"{level.spacing_mm:.3g}",
        "text": f"{level.spacing_mm:.3g}",
        "first": f"{level.first:.4g}",
        "last": f"{level.last:.4g}",
        "evaluations": level.evaluations,
        "width": level.width,
        "line": level.line,
    }
