"""The study of rigid registration of MR contrasts: errors, repeatability, resuming, page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts.bench import rigid_metrics as rm
from scripts.bench.__main__ import main
from scripts.bench.store import Results, read, write
from scripts.bench.studies import contrasts_rigid

CENTRE = np.array([10.0, -20.0, 30.0])
POINTS = CENTRE + np.random.default_rng(3).uniform(-60, 60, (400, 3))
COST = {"wall_s": 4.0, "cpu_s": 5.0, "peak_gb": 0.5}
NMI = "stn3d --kind rigid --metric nmi"
HEAD = {"machine": "a machine", "versions": {}, "threads": 2, "command": "contrasts_rigid run"}


def some_motion(seed: int, size: float = 1.0) -> rm.Floats:
    numbers = np.random.default_rng(seed).normal(size=6) * size
    return rm.rigid_matrix(0.01 * numbers[:3], numbers[3:], CENTRE)


def test_the_metrics_are_the_distance_and_the_residual() -> None:
    truth, residual = some_motion(1, 20), some_motion(2)
    found = contrasts_rigid.metrics(truth, truth @ residual, POINTS)
    expected = np.linalg.norm(rm.transformed(residual, POINTS) - POINTS, axis=1)
    assert found["true_error_mm"]["mean"] == pytest.approx(expected.mean(), abs=1e-4)
    assert found["true_error_mm"]["max"] == pytest.approx(expected.max(), abs=1e-4)
    assert np.allclose(found["residual"], rm.motion(residual, POINTS.mean(0)), atol=1e-6)


def contrast_row(seed: int, error: float, tool: str = NMI, **more: Any) -> dict[str, Any]:
    common = {"fixed": "t1", "moving": "t2", "seed": seed, "tool": tool, "version": "stn3d 1"}
    spread = {"mean": error, "p95": error, "max": error}
    return common | {"true_error_mm": spread, "residual": [0.0] * 3 + [error, 0, 0]} | COST | more


def test_lost_runs_take_no_part_in_repeatability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrasts_rigid, "foreground_points_mm", lambda _: torch.from_numpy(POINTS))
    given = [contrast_row(1, 0.3), contrast_row(2, 0.5), contrast_row(3, 40.0)]
    given += [contrast_row(1, 0.2, tool="ants-rigid")]
    found = contrasts_rigid.with_repeatability(given)
    assert [row["repeatability_mm"] for row in found] == [0.2, 0.2, None, None]


def test_the_page_has_errors_repeatability_and_failures(tmp_path: Path) -> None:
    found = [contrast_row(1, 0.3, repeatability_mm=0.1), contrast_row(2, 2.0, repeatability_mm=0.2)]
    failed = {"fixed": "t1", "moving": "t2", "seed": 3, "tool": NMI, "version": "stn3d 1"}
    rows = [*found, failed | {"failed": "no overlap"}]
    write(tmp_path / "results.json", Results("contrasts_rigid", HEAD, rows))
    contrasts_rigid.report(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    line = f"| t1 <- t2 | {NMI} | 3 | 1.150 | 1.915 | 2.000 | 33 % (1 of 3) | 4.0 | 4.0 |"
    assert line in text
    assert line.replace("t1 <- t2", "all") in text
    assert f"| t1 <- t2 | {NMI} | 2 | 0.150 | 0.195 | 0.200 | 1.150 | 0.000 |" in text
    assert "Machine: a machine; threads: 2.\nVersions: stn3d 1." in text
    assert text.endswith(f"- t1 <- t2, seed 3, {NMI}: no overlap\n")


def test_each_pair_of_contrasts_is_made_for_all_tools_and_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = [], []

    def make_pair(folder: Path, moving: str, seed: int, fixed: str, _: Any) -> Path:
        pair = folder / f"{moving}-{seed}"
        pair.mkdir(parents=True)
        made.append((fixed, moving, seed))
        return pair

    def measured(tool: str, fixed: Path, pair: Path, *_: Any) -> dict[str, Any]:
        assert pair.is_dir()
        if len(asked) == 3:
            asked.append("")
            raise KeyboardInterrupt
        asked.append(tool)
        return {"true_error_mm": {"mean": 0.5}, "residual": [0.0] * 6} | COST

    def without_data() -> None:
        monkeypatch.setattr(contrasts_rigid, "contrast_path", Path)
        points = torch.from_numpy(POINTS)
        monkeypatch.setattr(contrasts_rigid, "foreground_points_mm", lambda _: points)

    without_data()
    monkeypatch.setattr(contrasts_rigid, "make_contrast_pair", make_pair)
    monkeypatch.setattr(contrasts_rigid, "measured", measured)
    monkeypatch.setattr(contrasts_rigid, "available", lambda tools, _: dict.fromkeys(tools, "1"))
    command = ["contrasts_rigid", "run", "--work", str(tmp_path / "w")]
    command += ["--out", str(tmp_path / "out")]
    command += ["--pairs", "t1 t2,flair t1post", "--count", "2", "--others", "ants-rigid"]
    command += ["--options=--metric nmi"]
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert made == [("t1", "t2", 1), ("flair", "t1post", 1)]
    monkeypatch.undo()
    without_data()
    monkeypatch.setattr(
        contrasts_rigid, "make_contrast_pair", lambda *a: make_pair(tmp_path / "n", *a[1:])
    )
    monkeypatch.setattr(contrasts_rigid, "measured", measured)
    monkeypatch.setattr(contrasts_rigid, "available", lambda tools, _: dict.fromkeys(tools, "1"))
    main(command)
    assert made[2:] == [("flair", "t1post", 1), ("t1", "t2", 2), ("flair", "t1post", 2)]
    assert asked == [NMI, "ants-rigid", NMI, "", "ants-rigid", *[NMI, "ants-rigid"] * 2]
    assert not list((tmp_path / "n").iterdir())
    assert len(read(tmp_path / "out").rows) == 8
    with pytest.raises(SystemExit, match="give pairs such as"):
        main([*command, "--pairs", "t1"])
