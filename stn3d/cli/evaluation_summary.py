"""Labels and tables of pairs of an evaluation on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stn3d.cli.screen import Screen

_SHOWN = 4  # omitted labels that are named
_COLUMNS = ("dice", "hd95_mm", "hd95_vox", "hausdorff_mm", "assd_mm", "nsd")
# Metrics that are shown for pairs; the JSON has all of them.
_METRICS = (
    "dice",
    "hd95_mm",
    "hd95_vox",
    "assd_mm",
    "nsd",
    "tre_mm.mean",
    "landmark_robustness",
    "true_error_mm.mean",
    "folding_pct",
    "ndv_pct",
    "log_jacobian_sd",
    "sdlogj",
)


def show_labels(screen: Screen, metrics: Mapping[str, Any]) -> None:
    """How many labels were measured and why others were not; when verbose, a table of labels."""
    if "labels" not in metrics:
        return
    labels, omitted = metrics["labels"], metrics["omitted_labels"]
    text = f"labels: {len(labels)} measured"
    if omitted:
        reasons = [f"{label} ({reason})" for label, reason in omitted.items()]
        more = f", and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        text += f"; omitted: {', '.join(reasons[:_SHOWN])}{more}"
    screen.say(text)
    if screen.verbose and labels:
        columns = [key for key in _COLUMNS if any(key in one for one in labels.values())]
        named = any("name" in one for one in labels.values())
        rows = [
            [
                label,
                *([one.get("name", "")] if named else []),
                *(_number(one.get(key)) for key in columns),
            ]
            for label, one in labels.items()
        ]
        screen.table(["label", *(["name"] if named else []), *columns], rows)


def show_pairs(screen: Screen, found: Mapping[str, Any]) -> None:
    """Means of each method with confidence intervals, and the comparisons in words.

    Args:
        screen: where to show them.
        found: the result of `stn3d.scoring.pairs_json`.
    """
    summary, confidence = found["summary"], found["bootstrap"]["confidence"]
    measured = [key for key in _METRICS if any(key in one for one in summary.values())]
    rows = [
        [key, *(_interval(metrics.get(key)) for metrics in summary.values())] for key in measured
    ]
    screen.table(["", *(method or "mean" for method in summary)], rows)
    count = len({one["pair"] for one in found["pairs"]})
    screen.say(
        f"{count} {'pair' if count == 1 else 'pairs'}: mean "
        f"[{100 * confidence:g} % bootstrap interval of the mean]"
    )
    for one in found["comparisons"]:
        if one["metric"] in _METRICS:
            screen.say(one["sentence"])
    if len(summary) > 2:
        screen.say("p values are not corrected for the number of comparisons")


def _interval(summary: Mapping[str, Any] | None) -> str:
    """The mean and its interval."""
    if summary is None or summary["mean"] is None:
        return "-"
    low, high = summary["interval"]
    text = _number(summary["mean"])
    return text if low is None else f"{text} [{_number(low)}, {_number(high)}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
