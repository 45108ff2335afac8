"""A metrics.json in plain words; docs/metrics-json.md defines its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stn3d.errors import InputError
from stn3d.inspection.words import number

_STATUS = {
    "good": "no measure gives reason for doubt",
    "check": "look at the moved image before you use the result",
    "failed": "do not use the result as it is",
}
# Key, name, unit, what a better value is, what the metric means.
_METRICS = (
    ("fov_overlap_pct", "field-of-view overlap", "%", "fixed image inside the moving one"),
    ("correlation", "correlation", "", "-1 to 1; high only for images of the same contrast"),
    ("local_correlation", "local correlation", "", "0 to 1; higher is better, within one pair"),
    ("dice", "Dice, mean over labels", "", "0 to 1; overlap of the labels, higher is better"),
    ("hd95_mm", "HD95, mean over labels", "mm", "95 % of the surfaces are closer; lower is better"),
    ("tre_mm", "landmark error (TRE)", "mm", "distance of landmark pairs; lower is better"),
    ("true_error_mm", "error against the true transform", "mm", "lower is better"),
)  # fmt: skip
_FOLDING_PCT = 0.1  # above it folding is worth a word


def explain_metrics(metrics: Mapping[str, Any]) -> list[str]:
    """The content of a metrics.json, or of the output of `stn3d evaluate`, in plain words.

    Args:
        metrics: the parsed JSON object.

    Returns:
        Lines of text, the most important first.

    Raises:
        InputError: it is not such an object.
    """
    if "after" in metrics and "before" in metrics:
        return [
            *_quality(metrics.get("quality")),
            *_table(metrics["before"], metrics["after"]),
            *_smoothness(metrics["after"]),
            *_selections(metrics.get("auto_selected")),
            *_circular(metrics.get("used_in_optimisation")),
        ]
    if "correlation" in metrics or "region" in metrics:
        return [*_table(None, metrics), *_smoothness(metrics)]
    raise InputError(
        "this JSON file holds neither a metrics.json of stn3d register nor the output of "
        "stn3d evaluate; give one of these."
    )


def _quality(quality: Any) -> list[str]:
    if not isinstance(quality, Mapping):
        return []
    status = str(quality.get("status"))
    lines = [f"quality: {status}, {_STATUS.get(status, 'an unknown status')}"]
    if quality.get("reason"):
        lines.append(f"   reason: {quality['reason']}")
    if quality.get("suggestion"):
        lines.append(f"   suggestion: {quality['suggestion']}")
    return lines + [f"   warning: {warning}" for warning in quality.get("warnings") or ()]


def _table(before: Any, after: Any) -> list[str]:
    """A line for each metric that was measured, with its meaning."""
    lines = []
    for key, name, unit, meaning in _METRICS:
        new, old = _mean(after.get(key)), _mean(before.get(key)) if before else None
        if new is None:
            continue
        change = f"{number(new)}" if old is None else f"{number(old)} -> {number(new)}"
        lines.append(f"{name}: {change} {unit}".rstrip() + f" ({meaning})")
    return lines


def _mean(value: Any) -> float | None:
    """A number, or the mean of a metric with several statistics; None for anything else."""
    if isinstance(value, Mapping):
        value = value.get("mean")
    return float(value) if isinstance(value, int | float) else None


def _smoothness(after: Any) -> list[str]:
    folding, low, high = (
        _mean(after.get(key)) for key in ("folding_pct", "jacobian_min", "jacobian_max")
    )
    if folding is None or low is None or high is None:
        return []
    if low == high:
        return [f"volumes change by a factor of {number(low)} from fixed to moving, everywhere"]
    word = "no voxel is folded" if folding == 0 else f"{folding:.3g} % of the voxels are folded"
    many = "; results there mean nothing" if folding > _FOLDING_PCT else ""
    return [
        f"{word}{many}; local volumes change by factors of {number(low)} to {number(high)} from "
        "fixed to moving"
    ]


def _selections(selected: Any) -> list[str]:
    if not isinstance(selected, Mapping):
        return []
    return [
        f"{what} {one.get('choice')}, selected automatically: {one.get('reason')}"
        for what, one in selected.items()
        if isinstance(one, Mapping)
    ]


def _circular(used: Any) -> list[str]:
    if not used:
        return []
    return [f"{' and '.join(map(str, used))} guided the registration: their metrics prove nothing"]
