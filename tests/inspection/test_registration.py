"""metrics.json in plain words."""

from __future__ import annotations

import pytest

from stn3d.errors import InputError
from stn3d.inspection import explain_metrics

AFTER = {
    "correlation": 0.9,
    "dice": 0.71,
    "tre_mm": {"mean": 1.5, "p95": 3.0, "max": 4.0},
    "folding_pct": 0.5,
    "jacobian_min": -0.1,
    "jacobian_max": 3.0,
}


def test_a_registration() -> None:
    before = {"correlation": 0.4, "dice": 0.3, "tre_mm": {"mean": 9.0, "p95": 12.0, "max": 14.0}}
    quality = {
        "status": "check",
        "reason": "folding",
        "suggestion": "Try it.",
        "warnings": ["w"],
    }
    lines = explain_metrics(
        {
            "quality": quality,
            "before": before,
            "after": AFTER,
            "auto_selected": {"metric": {"choice": "lncc", "reason": "same contrast"}},
            "used_in_optimisation": ["labels"],
        }
    )
    text = "\n".join(lines)
    assert lines[0].startswith("quality: check")
    shown = ["folding", "Try it.", "warning: w", "0.3 -> 0.71", "9 -> 1.5 mm", "0.5 % of the"]
    for part in (*shown, "metric lncc", "labels guided"):
        assert part in text


def test_an_evaluation_and_other_files() -> None:
    assert any("0.71" in line for line in explain_metrics(AFTER))
    with pytest.raises(InputError, match="neither"):
        explain_metrics({"a": 1})


def test_values_of_other_types_are_omitted() -> None:
    lines = explain_metrics(
        {
            "before": 3,
            "after": ["x"],
            "quality": [],
            "auto_selected": "a",
            "used_in_optimisation": 7,
        }
    )
    assert lines == []
    assert explain_metrics({"correlation": True, "dice": 10**400, "tre_mm": {"mean": "x"}}) == []
