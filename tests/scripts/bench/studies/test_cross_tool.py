"""The study of transform files: cells of the libraries at hand, and the page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from scripts.bench.store import Results, write
from scripts.bench.studies import cross_tool
from scripts.bench.studies.cross_tool import study
from scripts.bench.studies.cross_tool.cases import Applied, Case
from scripts.bench.studies.cross_tool.page import LIMIT_MM, LIMIT_PCT

CHOSEN = {("SimpleITK", "t.h5"), ("SimpleITK", "field.nii.gz"), ("nitransforms", "t.aff12.1D")}


@pytest.mark.parametrize("orientation", ["LAS", "oblique"])
def test_cells_are_within_the_bounds(tmp_path: Path, orientation: str) -> None:
    case = Case(orientation, tmp_path / orientation)
    cells = [one for one in study._cells(sys.executable) if (one.tool, one.file) in CHOSEN]
    assert len(cells) == len(CHOSEN)
    for cell in cells:
        for writer in study._writers(cell):
            row = study._measured(cell, writer, case)
            assert 0 < row["points_mm"] < LIMIT_MM
            assert 0 < row["image_pct"] < LIMIT_PCT


def test_a_wrong_transform_is_above_the_bounds(tmp_path: Path) -> None:
    case = Case("RAS", tmp_path / "RAS")
    theirs = Applied(points=case.linear(torch.from_numpy(case.points)).numpy())
    assert (case.errors(case.transform("both"), theirs)["points_mm"] or 0) > 10 * LIMIT_MM


def test_the_page_marks_what_is_above_a_bound(tmp_path: Path) -> None:
    common = {"format": "itk", "file": "t.h5", "tool": "SimpleITK", "kind": "both"}
    rows = [
        {**common, "written_by": "stn3d", "orientation": "RAS", "points_mm": 2.0, "image_pct": 0.0},
        {**common, "written_by": "stn3d", "orientation": "LAS", "failed": "OSError: gone"},
    ]
    head = {"machine": "m", "command": "cross_tool run", "versions": {"stn3d": "1"}}
    write(tmp_path / "results.json", Results("cross_tool", head, rows))
    cross_tool.report(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| SimpleITK | itk | t.h5 | stn3d | **2e+00** |" in page
    assert "1 cells, 1 above a bound." in page
    assert "itk t.h5 by stn3d (LAS): OSError: gone" in page
