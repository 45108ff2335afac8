"""Results as they are printed: table, region, parameters, quality."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stn3d.cli import summary
from stn3d.cli.screen import Screen
from stn3d.transforms import Rigid, describe_linear

REGION = {"name": "foreground", "voxels": 1200, "image_pct": 12.5}
BEFORE: dict[str, Any] = {
    "region": REGION,
    "fov_overlap_pct": 80.4,
    "correlation": 0.25,
    "folding_pct": 0.0,
    "image_loss": {"metric": "lncc", "spacing_mm": 2.0, "value": 0.875},
}
AFTER: dict[str, Any] = {
    **BEFORE,
    "correlation": 0.75,
    "dice": None,
    "image_loss": {"metric": "lncc", "spacing_mm": 2.0, "value": 0.125},
    "inverse_consistency_error_mm": {"mean": 0.1, "p95": 0.25, "max": 1.5},
}


def lines(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [" ".join(line.split()) for line in capfd.readouterr().out.splitlines()]


def test_the_table_has_the_optimised_loss_and_names_its_region(
    capfd: pytest.CaptureFixture[str],
) -> None:
    summary.show_metrics(Screen(), before=BEFORE, after=AFTER)
    printed = lines(capfd)
    assert "before after" in printed
    assert "field-of-view overlap, % 80.4 80.4" in printed
    assert "image loss (lncc, 2 mm) 0.8750 0.1250" in printed
    assert "correlation 0.2500 0.7500" in printed
    assert "inverse-consistency error, mm - 0.100 (0.250, 1.500)" in printed
    assert not any("Dice" in line for line in printed)
    assert printed[-2:] == [
        "errors: mean (95th percentile, maximum)",
        "region: foreground of the fixed image, 1200 voxels (12.5 %)",
    ]


def test_without_errors_and_region_there_is_only_a_table(
    capfd: pytest.CaptureFixture[str],
) -> None:
    summary.show_metrics(Screen(), motion={"rotation_max_deg": 1.25})
    assert [line for line in lines(capfd) if line][-1] == "rotation, maximum, degrees 1.250"


def test_parameters_are_named_and_in_degrees(capfd: pytest.CaptureFixture[str]) -> None:
    rigid = Rigid(torch.deg2rad(torch.tensor([0.0, 0, 30, 0, 0, 0])), torch.zeros(3).double())
    rigid.parameters[3:] = torch.tensor([1.0, 2, 3])
    summary.show_parameters(Screen(), "rigid transform", describe_linear(rigid).as_dict())
    printed = lines(capfd)
    assert printed[0] == "rigid transform, fixed points to moving points:"
    assert "z 30.000 (inferior-superior)" in printed[1]
    assert printed[2].startswith("- translation, mm: x 1.000, y 2.000, z 3.000, of the centre (0.0")


def test_the_quality_has_a_suggestion_where_there_is_one(
    capfd: pytest.CaptureFixture[str],
) -> None:
    quality = {"status": "check", "reason": "the scale is 1.4", "suggestion": "Try --kind rigid."}
    summary.show_quality(Screen(), {"quality": quality})
    assert lines(capfd) == ["quality: check; the scale is 1.4. Try --kind rigid."]
    warned = {"quality": {**quality, "warnings": ["left and right may be exchanged."]}}
    summary.show_quality(Screen(), warned)
    assert lines(capfd)[1:] == ["warning: left and right may be exchanged."]
