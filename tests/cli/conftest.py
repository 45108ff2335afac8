"""Fixtures of the tests of commands: a synthetic pair, its registration, a folder of bad files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from stn3d.cli import main
from tests.cli.bad_files import make_bad_files
from tests.cli.cases import (
    QUICK,
    Files,
    make_files,
    without_opening,
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they save on images this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def both_files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Files]:
    return {d: make_files(tmp_path_factory.mktemp(f"pair{d}"), d) for d in (2, 3)}


@pytest.fixture(scope="session")
def both_results(both_files: dict[int, Files]) -> dict[int, Path]:
    """Each pair registered once, for all tests."""
    for files in both_files.values():
        out = str(files.folder / "out")
        assert main(["register", *files.pair, "--out", out, *QUICK, *files.labels]) == 0
    return {d: files.folder / "out" for d, files in both_files.items()}


@pytest.fixture(params=[2, 3])
def ndim(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def files(both_files: dict[int, Files], ndim: int) -> Files:
    return both_files[ndim]


@pytest.fixture
def result(both_results: dict[int, Path], ndim: int) -> Path:
    return both_results[ndim]


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    make_bad_files(folder)
    return folder


@pytest.fixture
def refused(
    bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Run a command among the bad files; the one sentence that it ends with, all else checked."""

    def run(command: str) -> str:
        monkeypatch.chdir(bad)
        before = {path: path.stat().st_mtime_ns for path in bad.rglob("*")}
        capfd.readouterr()
        code = main([word.replace("NEW", str(tmp_path)) for word in command.split()])
        out, err = capfd.readouterr()
        lines = without_opening(err.splitlines())
        notes = [line for line in lines if line.startswith("note: ")]
        assert code == 2, err
        assert out == ""
        assert len(lines) == 1 + len(notes), err
        assert lines[-1].startswith("stn3d: ")
        assert lines[-1].endswith((".", "?"))
        assert list(tmp_path.rglob("*")) == [], "something was left in the output's place"
        assert {path: path.stat().st_mtime_ns for path in bad.rglob("*")} == before
        return lines[-1]

    return run
