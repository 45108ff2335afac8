"""The cases that the quality check is evaluated with, and the tables made of them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.bench.__main__ import main
from scripts.bench.quality_cases import Case
from scripts.bench.store import Results, read, write
from scripts.bench.studies import quality
from stn3d import Affine, Grid
from tests.registration.test_quality import SOUND

HEAD = {"machine": "a machine", "versions": {"python": "3.11"}, "command": "quality run"}


def row(
    number: int, error_mm: float | None, what: str = "contrasts", **measures: float
) -> dict[str, Any]:
    found = dataclasses.asdict(dataclasses.replace(SOUND, **measures))
    common = {"number": number, "what": what, "true_error_mm": error_mm}
    return common | {"quality": {"measures": found}}


def test_rows_become_tables_and_fractions(tmp_path: Path) -> None:
    rows = [
        row(0, 0.4, mirror_advantage_fraction=0.03),
        row(2, 3.0),
        row(4, 9.0, restart_disagreement_fraction=0.3, restart_disagreement_mm=60.0),
        row(6, None, "unrelated", max_affine_scale=1.5),
        row(61, 7.5),
        {"number": 301, "what": "unrelated", "refused": "the images do not overlap."},
    ]
    write(tmp_path / "results.json", Results("quality", HEAD, rows))
    main(["quality", "report", "--out", str(tmp_path)])
    page = (tmp_path / "README.md").read_text(encoding="utf8")
    seen, unseen = page.split("## Volumes, held-out cases")
    assert "| good | 1 | 1 | 0 | 0 |" in seen
    assert "| check | 0 | 0 | 0 | 1 |" in seen
    assert "| failed | 0 | 0 | 1 | 0 |" in seen
    assert (
        "Of 2 wrong registrations, 0 had the status good; of 1 registrations within 2 mm, 1 did, "
        "0 had check and 0 failed. Of the latter 1, 1 had the warning that left and right may be "
        "exchanged." in seen
    )
    assert "Of 1 wrong registrations, 1 had the status good" in unseen
    assert "| refused | 0 | 0 | 0 | 1 |" in unseen
    assert "- 61: contrasts, 7.5 mm" in page


def test_stacks_that_rules_were_chosen_with_are_shown_apart(tmp_path: Path) -> None:
    rows = [row(413, 0.1, "stacks"), row(414, 0.1, "stacks"), row(441, 0.1, "stacks")]
    write(tmp_path / "results.json", Results("quality", HEAD, rows))
    main(["quality", "report", "--out", str(tmp_path)])
    page = (tmp_path / "README.md").read_text(encoding="utf8")
    seen, unseen = page.split("## Stacks of 2 to 8 slices, held-out cases")
    assert "| good | 1 | 0 | 0 | 0 |" in seen
    assert "| good | 2 | 0 | 0 | 0 |" in unseen


def test_rows_of_another_folder_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "registered", lambda number: row(number, 1.0))
    write(tmp_path / "a" / "results.json", Results("quality", HEAD, [row(7, 2.0), row(1, 3.0)]))
    monkeypatch.setattr(quality, "NUMBERS", (0, 5, 1, 6))
    options = ["--out", str(tmp_path / "b"), "--merge", str(tmp_path / "a")]
    options += ["--part", "0", "--parts", "2"]
    main(["quality", "run", *options])
    results = read(tmp_path / "b")
    found = {one["number"]: one["true_error_mm"] for one in results.rows}
    assert results.head["command"] == f"quality run --out {tmp_path / 'b'}"
    assert found == {7: 2.0, 1: 3.0, 0: 1.0}


def test_no_rows_no_page(tmp_path: Path) -> None:
    write(tmp_path / "results.json", Results("quality", HEAD, []))
    with pytest.raises(SystemExit, match="no rows"):
        quality.report(tmp_path)


def test_errors_count_what_both_images_show() -> None:
    grid = Grid.of_spacing((30, 30, 30), 2.0)
    image = torch.zeros(1, 1, 30, 30, 30)
    image[..., 5:25, 5:25, 5:25] = torch.rand(20, 20, 20) + 1
    shift = Affine.from_matrix(torch.eye(4, dtype=torch.float64))
    here = (image, grid)
    case = Case("contrasts", here, here, shift)
    aside = torch.eye(4, dtype=torch.float64)
    aside[0, 3] = 3.0
    assert quality.error_mm(Affine.from_matrix(aside), case) == pytest.approx(3.0)
    far = torch.eye(4, dtype=torch.float64)
    far[0, 3] = 500.0
    gone = Case("contrasts", here, here, Affine.from_matrix(far))
    assert quality.error_mm(Affine.from_matrix(far), gone) == math.inf
    unrelated = Case("unrelated", here, here, None)
    assert quality.error_mm(shift, unrelated) == math.inf
