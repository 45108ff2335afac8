"""The page of the cohort study, and the comparison of two folders of results."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("psutil")

from scripts.bench.store import Results, write
from scripts.bench.studies.cohort import report
from scripts.bench.studies.cohort.throughput import different


def test_the_page_compares_pairs_an_hour_and_lists_findings(tmp_path: Path) -> None:
    speed = {"wall_s": 100.0, "cpu_s": 150.0, "peak_gb": 1.2, "pairs": 20}
    rows = [
        {"part": "throughput", "what": "stn3d cohort, 2 workers of 1 thread", **speed},
        {"part": "throughput", "what": "stn3d register, 2 threads, shell loop", **speed},
        {"part": "throughput", "what": "greedy, 2 threads, shell loop", **speed},
        {"part": "faults", "what": "disk full", "repetitions": 5, "findings": ["3: x is left"]},
    ]
    for row, hourly in zip(rows, (900.0, 500.0, 60.0), strict=False):
        row["pairs_per_hour"] = hourly
    head = {"command": "cohort run", "machine": "a machine", "versions": {}}
    write(tmp_path / "results.json", Results("cohort", head, rows))
    report(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "1.80 times as many pairs an hour as a shell loop" in text
    assert "15.00 times as many pairs an hour as greedy" in text
    assert "| disk full | 5 | 1 |" in text
    assert "- disk full, 3: x is left" in text


def test_files_that_differ_or_are_missing_are_found(tmp_path: Path) -> None:
    for name in ("a", "b"):
        folder = tmp_path / name / "p1"
        folder.mkdir(parents=True)
        (folder / "moved.nii.gz").write_bytes(b"same")
        (folder / "transform.h5").write_text(name)
        (folder / "metrics.json").write_text(name)  # it holds times
    (tmp_path / "a" / "p1" / "inverse.h5").touch()
    assert different(tmp_path / "a", tmp_path / "b") == ["p1/inverse.h5", "p1/transform.h5"]
