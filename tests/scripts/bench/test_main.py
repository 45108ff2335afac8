"""The command line of the benchmarks: the list of studies, their options, and their modules."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bench.__main__ import main
from scripts.bench.options import RunOptions, command_line
from scripts.bench.paths import RESULTS, ROOT
from scripts.bench.store import read
from scripts.bench.studies import STUDIES, brains, load

NEEDED = {"mnist": "ignite", "training": "ignite", "synth": "matplotlib"}  # optional packages


def test_help_lists_every_study(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    for name, summary in STUDIES.items():
        assert f"{name} " in printed
        assert summary in printed


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_options_run_and_report(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    study = load(name)
    assert study.__doc__
    assert f"python -m scripts.bench {name} run" in study.__doc__
    with pytest.raises(SystemExit) as end:
        main([name, "run", "--help"])
    assert end.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    for found in dataclasses.fields(study.Options):
        assert f"--{found.name.replace('_', '-')}" in printed
    with pytest.raises(SystemExit, match="There is no file"):
        study.report(Path("nowhere"))


def test_every_module_of_the_studies_is_listed() -> None:
    folder = ROOT / "scripts" / "bench" / "studies"
    found = {path.stem for path in folder.iterdir() if path.stem not in ("__init__", "__pycache__")}
    assert found == set(STUDIES)


def test_an_unknown_study_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["brain", "run"])
    assert end.value.code == 2
    assert "invalid choice: 'brain'" in capsys.readouterr().err


def test_the_list_is_printed_without_heavy_imports() -> None:
    code = "import sys; from scripts.bench.__main__ import main\ntry: main(['--help'])\n"
    code += "except SystemExit: pass\nassert not {'numpy', 'torch', 'stn3d'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_a_command_names_what_differs_from_the_defaults() -> None:
    options = brains.Options(out=RESULTS / "brains", tools="greedy", again=True, threads=1)
    text = command_line("brains", options)
    assert text == "brains run --out docs/results/brains --threads 1 --tools greedy"
    assert isinstance(options, RunOptions)


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("*.json")), ids=lambda path: path.parent.name)
def test_stored_results_are_in_the_format(path: Path) -> None:
    results = read(path)
    assert results.study in STUDIES
    assert {"machine", "versions", "command"} <= set(results.head) or path.stem == "references"
    assert results.rows or results.study == "synth"
