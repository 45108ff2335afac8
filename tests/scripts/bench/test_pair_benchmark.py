"""Tools on pairs: rows are kept, and an interrupted run continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.bench import pair_benchmark
from scripts.bench.__main__ import main
from scripts.bench.store import read

HEADER = "name,split,fixed,moving\n"
COST = {"wall_s": 10.0, "cpu_s": 20.0, "peak_gb": 1.0}


def test_a_missing_config_is_reported(tmp_path: Path) -> None:
    command = ["brains", "run", "--out", str(tmp_path / "r"), "--config", "gone.yaml"]
    with pytest.raises(SystemExit, match=r"--config: there is no file gone.yaml"):
        main(command)


def test_networks_need_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "pairs.csv").write_text(HEADER + "x,,a.nii,a.nii\n")
    seen: list[dict[str, str]] = []

    def evaluate_tool(tool: str, pair: dict[str, str], *_: Any) -> dict[str, Any]:
        seen.append(pair)
        return dict(COST)

    monkeypatch.setattr(pair_benchmark, "evaluate_tool", evaluate_tool)
    command = ["brains", "run", "--pairs", str(tmp_path / "pairs.csv"), "--tools", "stn3d both"]
    command += ["--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="stn3d both needs --deformable-weights FILE"):
        main(command)
    assert not seen
    main([*command, "--deformable-weights", "w.safetensors"])
    assert [pair["deformable_weights"] for pair in seen] == ["w.safetensors"]


def test_an_interrupted_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nii").touch()
    (tmp_path / "pairs.csv").write_text(HEADER + "x,,a.nii,a.nii\ny,held-out,a.nii,a.nii\n")
    calls: list[tuple[str, str]] = []
    last: list[str] = ["y"]

    def evaluate_tool(tool: str, pair: dict[str, str], *_: Any) -> dict[str, Any]:
        if pair["name"] in last:
            raise KeyboardInterrupt
        calls.append((pair["name"], tool))
        return {"failed": "so it is"} if (pair["name"], len(calls)) == ("x", 2) else dict(COST)

    monkeypatch.setattr(pair_benchmark, "evaluate_tool", evaluate_tool)
    out = tmp_path / "out"
    command = ["brains", "run", "--pairs", str(tmp_path / "pairs.csv"), "--out", str(out)]
    command += ["--tools", "stn3d fast,demons"]
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert calls == [("x", "stn3d fast"), ("x", "demons")]
    last.clear()
    main(command)
    assert calls[2:] == [("x", "demons"), ("y", "stn3d fast"), ("y", "demons")]
    main(command)
    assert len(calls) == 5
    main([*command, "--again"])
    assert len(calls) == 9
    results = read(out)
    assert [(r["pair"], r["tool"]) for r in results.rows] == [
        (pair, tool) for pair in "xy" for tool in ("stn3d fast", "demons")
    ]
    assert [r["split"] for r in results.rows] == ["", "", "held-out", "held-out"]
    assert results.head["command"].startswith("brains run ")
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "results.json"]
    with pytest.raises(SystemExit, match="measured with threads 2, now it is 1"):
        main([*command, "--threads", "1"])
