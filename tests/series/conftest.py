"""A series with known motion, and its registration."""

from __future__ import annotations

from pathlib import Path

import pytest

from stn3d.cli import main
from tests.helpers.series_cases import Known, make_series


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """A series with known motion."""
    return make_series(tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="session")
def result(known: Known) -> Path:
    """Folder with the files of one registration by the command line."""
    out = known.path.parent / "out"
    assert main(["series", str(known.path), "--out", str(out), "--threads", "1"]) == 0
    return out
