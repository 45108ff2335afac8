"""The tools of the benchmarks: their options, their runs, and the metrics of their transforms."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
import SimpleITK as sitk

from scripts.bench import tools
from scripts.bench.pairs import read_pairs
from stn3d.registration.settings import settings_from
from tests.scripts.bench.blobs import blobs

COST = {"wall_s": 10.0, "cpu_s": 20.0, "peak_gb": 1.0}


@pytest.mark.parametrize(
    ("tool", "estimator", "preset"),
    [
        ("stn3d accurate", "optimiser", "accurate"),
        ("stn3d network", "network", "default"),
        ("stn3d both fast", "both", "fast"),
    ],
)
def test_a_tool_of_stn3d_passes_its_estimator(
    tool: str, estimator: str, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def stop(command: list[str], allowed: Sequence[int] = (0,)) -> dict[str, float]:
        commands.append(command)
        raise subprocess.CalledProcessError(1, command, stderr="enough")

    monkeypatch.setattr(tools, "run_process", stop)
    pair = {"fixed": "f", "moving": "m", "deformable_weights": "w"}
    config = tmp_path / "c.yaml"
    assert tools.evaluate_tool(tool, pair, 1, sys.executable, config) == {"failed": "enough"}
    words = [word for word in commands[0] if word != "--no-report"]
    words = words[words.index("--out") :]
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options["--config"] == str(config)
    assert options.get("--deformable-weights") == ("w" if tools.needs_weights(tool) else None)
    assert tools.needs_weights(tool) == (estimator != "optimiser")
    given = {key: options.get(f"--{key}") for key in ("estimator", "preset")}
    settings = settings_from(given)
    assert (settings.estimator, settings.preset) == (estimator, preset)


def test_a_missing_tool_is_omitted_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tools, "PEERS_SCRIPT", tmp_path / "baselines.py")
    (tmp_path / "baselines.py").write_text("""print('{"greedy": null, "demons": "simpleitk 9"}')""")
    found = tools.available(["greedy", "stn3d fast", "demons"], sys.executable)
    assert list(found) == ["stn3d fast", "demons"]
    assert found["demons"] == "simpleitk 9"
    assert capsys.readouterr().err == "greedy is omitted: picsl-greedy is not installed.\n"
    with pytest.raises(SystemExit, match="No tool remains"):
        tools.available(["greedy"], sys.executable)
    with pytest.raises(SystemExit, match="there is no tool 'gredy'; choose from stn3d fast"):
        tools.available(["gredy"], sys.executable)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('some'); raise ValueError('of no use')", "ValueError: of no use"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("raise SystemExit(3)", "ended with exit code 3"),
    ],
)
def test_a_failed_run_is_a_row_with_the_reason(
    code: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "PEERS_SCRIPT", tmp_path / "baselines.py")
    (tmp_path / "baselines.py").write_text(code)
    row = tools.evaluate_tool("demons", {"fixed": "f", "moving": "m"}, 1, sys.executable)
    assert row == {"failed": reason}


def test_any_options_of_stn3d_are_a_tool_and_so_is_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = "stn3d --kind rigid --metric nmi"
    found = tools.available([tool, "before"], sys.executable)
    assert found == {tool: f"stn3d {version('stn3d')}", "before": "before"}
    commands: list[list[str]] = []

    def run_process(command: list[str], allowed: Sequence[int] = (0,)) -> dict[str, float]:
        commands.append(command)
        assert allowed == (0, 3)  # a result whose quality check failed is evaluated too
        return dict(COST)

    monkeypatch.setattr(tools, "run_process", run_process)
    cost = tools.register_pair(tool, ("f", "m"), tmp_path, 2, further=["--seed", "1"])
    assert cost == COST
    assert commands[0][-6:] == ["--kind", "rigid", "--metric", "nmi", "--seed", "1"]
    monkeypatch.setattr(tools, "score", lambda pair, path: {"dice": 0.5, "path": path})
    row = tools.evaluate_tool("before", {"fixed": "f", "moving": "m"}, 1, sys.executable)
    assert row == {"dice": 0.5, "path": None}
    assert len(commands) == 1


def test_a_tool_may_use_files_of_the_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(
        tools, "run_process", lambda command, allowed: commands.append(command) or {}
    )
    monkeypatch.setattr(tools, "score", lambda pair, path: {"dice": 0.5})
    monkeypatch.setattr(tools, "quality_status", lambda out: {"quality_status": "check"})
    pair = {"fixed": "f", "moving": "m", "fixed_labels": "fl", "moving_labels": "ml"}
    row = tools.evaluate_tool("stn3d + labels", pair, 1, sys.executable)
    assert row == {"dice": 0.5, "quality_status": "check"}
    assert commands[0][commands[0].index("--moving-labels") + 1] == "ml"
    row = tools.evaluate_tool("stn3d + labels", {"fixed": "f", "moving": "m"}, 1, sys.executable)
    assert row == {"failed": "the pair has no fixed_labels"}


def test_landmarks_of_a_pair_are_evaluated(tmp_path: Path) -> None:
    folder = tmp_path / "pairs" / "p"
    folder.mkdir(parents=True)
    for role, x in (("fixed", 10.0), ("moving", 12.0)):
        sitk.WriteImage(blobs(0.0, (10.0, -20.0, 30.0)), str(folder / f"{role}.nii.gz"))
        (folder / f"{role}_points.csv").write_text(f"x,y,z\n{x},0,0\n{x},5,7\n")
    (pair,) = read_pairs(tmp_path / "pairs")
    assert tools.score(pair, None)["tre_mm"] == pytest.approx(2.0)


def test_the_status_is_that_of_metrics_json(tmp_path: Path) -> None:
    assert tools.quality_status(tmp_path) == {}
    content = {"schema_version": 1, "quality": {"status": "check", "reason": "", "measures": {}}}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert tools.quality_status(tmp_path) == {"quality_status": "check"}
