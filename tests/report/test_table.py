"""The row of a registration has the numbers of its metrics.json."""

from __future__ import annotations

import json

import torch

from stn3d import RegistrationImage, register
from stn3d.grid import Grid
from stn3d.report.table import COLUMNS, row_of


def test_a_row_holds_the_numbers_of_metrics_json() -> None:
    grid = Grid((14, 14, 14), torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0])))
    distance = (grid.points_mm() - grid.centre_mm).norm(dim=-1)
    image = torch.exp(-((distance / 9) ** 2)).float()
    points = grid.centre_mm + torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]])
    fixed = RegistrationImage((image, grid), labels=((image > 0.2).long(), grid), landmarks=points)
    moving = RegistrationImage(
        (image.roll(1, 0), grid),
        labels=((image.roll(1, 0) > 0.2).long(), grid),
        landmarks=points + torch.tensor([3.0, 0, 0]),
    )
    metrics = json.loads(json.dumps(register(fixed, moving, kind="rigid", preset="fast").metrics))
    row = row_of(metrics)
    assert tuple(row) == COLUMNS
    assert row["status"] == metrics["quality"]["status"]
    assert row["kind"] == "rigid"
    assert row["dice_before"] == metrics["before"]["dice"] < row["dice_after"]
    assert row["tre_mm_before"] == 3.0 > row["tre_mm_after"]
    assert (
        row["inverse_consistency_error_mm"]
        == metrics["after"]["inverse_consistency_error_mm"]["mean"]
    )
    assert row["time_s"] == round(sum(metrics["timings_s"].values()), 3)
    for name in COLUMNS:  # everything that a registration with labels and landmarks measures
        assert row[name] is not None or name in ("similarity_margin_sd", "deformable_metric"), name


def test_a_row_of_nothing_and_of_strange_values() -> None:
    assert set(row_of({}).values()) == {None}
    strange = {"after": {"dice": float("nan"), "tre_mm": [1], "folding_pct": "x"}, "quality": None}
    assert set(row_of(strange).values()) == {None}
