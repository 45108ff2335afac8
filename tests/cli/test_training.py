"""The command `train`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("ignite")

from stn3d.errors import InputError
from tests.helpers.training import TINY, TRAIN


def test_train_resumes_and_starts_fresh(tmp_path: Path) -> None:
    from typer import Typer
    from typer.testing import CliRunner

    from stn3d.cli.training import train as command

    app = Typer()
    app.command()(command)
    words = [f"{key}={json.dumps(value)}" for key, value in TINY.items()]
    words += ["epochs=1", "epoch_length=2", f"output_dir={tmp_path}"]

    def lines(*options: str) -> int:
        done = CliRunner().invoke(app, [str(TRAIN), *words, *options], catch_exceptions=False)
        assert done.exit_code == 0
        return len(list(tmp_path.glob("events.*")))

    assert lines() == 1
    assert lines() == 2  # resumes, with one more events file
    assert lines("--fresh") == 1
    for wrong, message in ((["epochs=2"], "no config is given"), ([str(TRAIN), "a=1"], "no key")):
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(app, wrong, catch_exceptions=False)
