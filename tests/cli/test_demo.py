"""`stn3d demo`."""

from __future__ import annotations

import json
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from stn3d.cli import main
from tests.cli.cases import (
    RESULTS,
    printed,
)


@pytest.mark.slow
def test_demo_prints_what_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if not find_spec("nilearn"):
        pytest.skip("nilearn is not installed")
    from stn3d import demo

    monkeypatch.setattr(demo, "run", partial(demo.run, mode="copy", spacing_mm=8.0))
    assert main(["demo", "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    out, _ = printed(capfd)
    written = [Path(line.removeprefix("wrote ")) for line in out if line.startswith("wrote ")]
    assert {path.name for path in written} == {*RESULTS, "picture.png", "demo.json"}
    assert all(path.stat().st_size > 0 for path in written)
    result = json.loads((tmp_path / "out" / "demo.json").read_text(encoding="utf-8"))
    assert all(any(row[0] in line and row[1] in line for line in out) for row in result["rows"])
    assert out[0] == result["title"]
