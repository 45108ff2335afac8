"""A metrics.json in plain words; docs/metrics-json.md defines its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stn3d.errors import InputError
from stn3d.inspection.words import (
    list_of,
    mapping_of,
    number,
    number_of,
    quality_lines,
    text_of,
)

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
        before, after = (mapping_of(metrics[when]) for when in ("before", "after"))
        return [
            *quality_lines(mapping_of(metrics.get("quality")), _STATUS),
            *_table(before, after),
            *_smoothness(after),
            *_selections(mapping_of(metrics.get("auto_selected"))),
            *_circular(list_of(metrics.get("used_in_optimisation"))),
        ]
    if "correlation" in metrics or "region" in metrics:
        return [*_table({}, metrics), *_smoothness(metrics)]
    raise InputError(
        "this JSON file holds neither a metrics.json of stn3d register, nor the output of "
        "stn3d evaluate, nor a volumes.json of stn3d segment; give one of these."
    )


def _table(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """A line for each metric that was measured, with its meaning."""
    lines = []
    for key, name, unit, meaning in _METRICS:
        new, old = _mean(after.get(key)), _mean(before.get(key))
        if new is None:
            continue
        change = f"{number(new)}" if old is None else f"{number(old)} -> {number(new)}"
        lines.append(f"{name}: {change} {unit}".rstrip() + f" ({meaning})")
    return lines


def _mean(value: Any) -> float | None:
    """A number, or the mean of a metric with several statistics; None for anything else."""
    if isinstance(value, Mapping):
        value = value.get("mean")
    return number_of(value)


def _smoothness(after: Mapping[str, Any]) -> list[str]:
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


def _selections(selected: Mapping[str, Any]) -> list[str]:
    return [
        f"{text_of(what)} {text_of(one.get('choice'))}, selected automatically: "
        f"{text_of(one.get('reason'))}"
        for what, one in selected.items()
        if isinstance(one, Mapping)
    ]


def _circular(used: Sequence[Any]) -> list[str]:
    if not used:
        return []
    names = " and ".join(map(text_of, used))
    return [f"{names} guided the registration: their metrics prove nothing"]
