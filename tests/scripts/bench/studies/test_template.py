"""The study of templates: Dice through a template, and the tables of its page."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scripts.bench.store import Results, write
from scripts.bench.studies.template import report
from scripts.bench.studies.template.page import DIRECT, THROUGH
from scripts.bench.studies.template.study import dice_at
from stn3d.grid import Grid
from stn3d.io import read_labels


def test_dice_at_mapped_points() -> None:
    """A box of 6 voxels along x, shifted by 2: an overlap of 4 of 6."""
    grid = Grid.of_spacing((12, 8, 8), (1.0, 2.0, 1.5))
    array = torch.zeros(12, 8, 8, dtype=torch.int16)
    array[3:9, 1:7, 1:7] = 5
    labels = read_labels((array, grid))
    points = grid.points_mm().reshape(-1, 3)
    assert dice_at(labels, labels, points) == 1
    shift = torch.tensor([2.0, 0.0, 0.0])
    assert dice_at(labels, labels, points + shift) == pytest.approx(4 / 6)


def test_the_page_compares_pairs_that_both_have(tmp_path: Path) -> None:
    rows = [
        {"kind": "pair", "name": "1000 <- 1001", "tool": THROUGH, "dice": 0.66},
        {"kind": "pair", "name": "1002 <- 1012", "tool": THROUGH, "dice": 0.64},
        {"kind": "pair", "name": "1000 <- 1012", "tool": THROUGH, "dice": 0.60},
        {"kind": "pair", "name": "1000 <- 1001", "tool": DIRECT, "dice": 0.65},
        {"kind": "pair", "name": "1002 <- 1012", "tool": DIRECT, "dice": 0.66},
        {
            "kind": "template",
            "name": "15 brains",
            "tool": "stn3d",
            "iterations": [
                {"mean_displacement_mm": 0.5, "sharpness": 0.4, "sharpness_of_images": 1}
            ],
        },
        *(
            {"kind": "visits", "name": "T1W", "tool": tool, "error_mm": 1.25} | more
            for tool, more in {
                "headers": {},
                "direct": {"to_midpoint_mm": 0.1},
                "direct, other direction": {"to_midpoint_mm": 0.2},
                "midpoint": {"swapped_equal": True},
            }.items()
        ),
    ]
    head = {"machine": "a machine", "threads": 2, "command": "template run", "versions": {}}
    write(tmp_path / "results.json", Results("template", head, rows))
    report(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| all that were measured | 3 | 0.6333 |" in page
    assert "| registered directly | 2 | 0.6500 | 0.6550 | -0.0050 |" in page
    assert "| of these, both brains used for tuning | 1 | 0.6600 | 0.6500 | +0.0100 |" in page
    assert "| of these, no brain used for tuning | 1 | 0.6400 | 0.6600 | -0.0200 |" in page
    assert "| T1W | 1.250 | 1.250 | 1.250 | 1.250 | 0.100, 0.200 | yes |" in page
