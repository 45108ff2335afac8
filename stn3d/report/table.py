"""One registration as a row of a table: the metrics of its metrics.json, flat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

Row: TypeAlias = "dict[str, str | float | None]"

COMPARED: dict[str, tuple[str, ...]] = {
    "correlation": ("correlation",),
    "local_correlation": ("local_correlation",),
    "image_loss": ("image_loss", "value"),
    "dice": ("dice",),
    "hd95_mm": ("hd95_mm",),
    "hausdorff_mm": ("hausdorff_mm",),
    "assd_mm": ("assd_mm",),
    "tre_mm": ("tre_mm", "mean"),
    "tre_max_mm": ("tre_mm", "max"),
    "fov_overlap_pct": ("fov_overlap_pct",),
}
"""Columns ``NAME_before`` and ``NAME_after``, and where metrics.json holds them."""

RESULT: dict[str, tuple[str, ...]] = {
    "landmark_robustness": ("after", "landmark_robustness"),
    "folding_pct": ("after", "folding_pct"),
    "ndv_pct": ("after", "ndv_pct"),
    "log_jacobian_sd": ("after", "log_jacobian_sd"),
    "jacobian_min": ("after", "jacobian_min"),
    "jacobian_max": ("after", "jacobian_max"),
    "inverse_consistency_error_mm": ("after", "inverse_consistency_error_mm", "mean"),
    "restart_disagreement_mm": ("quality", "measures", "restart_disagreement_mm"),
    "similarity_margin_sd": ("quality", "measures", "similarity_margin_sd"),
    "estimated_memory_gb": ("memory", "estimated_gb"),
}
"""Columns of the result alone, and where metrics.json holds them."""

WORDS: dict[str, tuple[str, ...]] = {
    "fixed": ("fixed", "name"),
    "moving": ("moving", "name"),
    "status": ("quality", "status"),
    "reason": ("quality", "reason"),
    "kind": ("settings", "kind"),
    "metric": ("settings", "metric"),
    "deformable_metric": ("settings", "deformable_metric"),
    "preset": ("settings", "preset"),
}
"""Columns of text, and where metrics.json holds them."""

COLUMNS = (
    *WORDS,
    *(f"{name}_{when}" for name in COMPARED for when in ("before", "after")),
    *RESULT,
    "time_s",
)
"""All columns, in order."""


def row_of(metrics: Mapping[str, Any]) -> Row:
    """The row of one registration: every column of `COLUMNS`, None where there is no value.

    Means are over labels and landmarks, as docs/metrics.md defines them; `time_s` is the sum of all
    steps.

    Args:
        metrics: content of metrics.json.

    Examples:
        >>> found = {"quality": {"status": "good"}, "after": {"tre_mm": {"mean": 1.5}}}
        >>> row = row_of(found)
        >>> row["status"], row["tre_mm_after"], row["tre_mm_before"]
        ('good', 1.5, None)
    """
    row: Row = {name: _text(_at(metrics, path)) for name, path in WORDS.items()}
    for name, path in COMPARED.items():
        for when in ("before", "after"):
            row[f"{name}_{when}"] = _number(_at(metrics, (when, *path)))
    row |= {name: _number(_at(metrics, path)) for name, path in RESULT.items()}
    seconds = _at(metrics, ("timings_s",))
    times = [_number(one) or 0.0 for one in seconds.values()] if seconds else []
    row["time_s"] = round(sum(times), 3) if times else None
    return row


def _at(content: Any, path: tuple[str, ...]) -> Any:
    """The value under nested keys; None where there is none."""
    for key in path:
        if not isinstance(content, Mapping):
            return None
        content = content.get(key)
    return content


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
