"""Checkpoints and resumed runs, seeds, early stopping, output folders."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ignite")

from stn3d.errors import InputError
from stn3d.nets.weights import load_weights
from stn3d.train import (
    read_history,
    read_record,
)
from tests.helpers.training import TINY, TRAIN, require_equal, train, weights_of

pytestmark = pytest.mark.slow

KILLED = """
import json, sys, torch
torch.set_num_threads(1)
from stn3d.train import run_config
run_config([sys.argv[1]], json.loads(sys.argv[2]))
"""


def test_files_of_a_run(whole_run: Path) -> None:
    names = {file.name.split(".")[0] for file in whole_run.iterdir()}
    assert names == {"last", "best", "model", "history", "events"}
    trained = load_weights(whole_run / "model.safetensors")
    assert trained.preprocessing == {"spacing_mm": 8.0, "shape": [24, 24]}
    assert trained.record["data"] == "random shapes"
    assert math.isfinite(trained.record["validation"]["val_truth_error_mm"])
    lines = read_history(whole_run / "history.jsonl")
    logged = [line["iteration"] for line in lines if "loss" in line]
    assert logged == [2, 4, 6, 8, 10]
    assert [line["iteration"] for line in lines if "validation" in line] == [5, 10]
    assert {"truth", "dice", "diffusion", "seconds", "samples_per_s"} <= lines[0].keys()


def test_runs_with_the_same_seed_are_identical(whole_run: Path, tmp_path: Path) -> None:
    require_equal(whole_run, train(tmp_path / "again"))
    other = weights_of(train(tmp_path / "other", seed=1))
    assert any(not torch.equal(v, other[k]) for k, v in weights_of(whole_run).items())


def test_a_killed_run_resumes_exactly(whole_run: Path, tmp_path: Path) -> None:
    """kill -9 within an epoch, after a checkpoint that is not at the end of an epoch."""
    folder = tmp_path / "killed"
    changes = TINY | {"output_dir": str(folder), "epochs": 2}
    command = [sys.executable, "-c", KILLED, str(TRAIN), json.dumps(changes)]
    last = folder / "last.ckpt.safetensors"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            if last.exists() and read_record(last)["iteration"] >= 6:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.wait(60)
        assert process.returncode == -signal.SIGKILL, process.stderr.read()[-2000:]
    reached = read_record(last)["iteration"]
    assert 6 <= reached < 10
    (folder / ".part-0123-last.ckpt.safetensors").write_bytes(b"partial file of a killed run")
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"iteration": 9, "lo')
    train(folder)
    require_equal(whole_run, folder)
    assert not list(folder.glob(".part-*"))
    lines = [
        {k: v for k, v in line.items() if k in ("iteration", "validation")}
        for line in read_history(folder / "history.jsonl")
    ]
    expected = [
        {k: v for k, v in line.items() if k in ("iteration", "validation")}
        for line in read_history(whole_run / "history.jsonl")
    ]
    assert lines == expected


@pytest.mark.parametrize("stop", [3, 5, 8])
def test_a_run_resumes_exactly_from_any_checkpoint(
    whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Interrupted within an epoch, at its end, and in the next; resumed with a worker process."""

    class Interrupted(Exception):
        pass

    from stn3d.train.handlers import Checkpoints

    save = Checkpoints._save

    def save_and_stop(self: Checkpoints, engine: Any, name: str) -> None:
        save(self, engine, name)
        if engine.state.iteration >= stop and name.startswith("last"):
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_save", save_and_stop)
        patch.setitem(TINY, "save_interval", stop)
        with pytest.raises((Interrupted, RuntimeError)):
            train(tmp_path)
    assert read_record(tmp_path / "last.ckpt.safetensors")["iteration"] == stop
    train(tmp_path, num_workers=1)
    require_equal(whole_run, tmp_path)


def test_a_finished_run_can_be_extended_and_a_fresh_run_starts_again(
    whole_run: Path, tmp_path: Path
) -> None:
    train(tmp_path, epochs=1)
    before = weights_of(tmp_path)
    train(tmp_path, epochs=1)  # nothing left to do
    assert all(torch.equal(v, before[k]) for k, v in weights_of(tmp_path).items())
    train(tmp_path, epochs=2)
    assert read_record(tmp_path / "last.ckpt.safetensors")["iteration"] == 10
    train(tmp_path, resume=False)
    require_equal(whole_run, tmp_path)


def test_a_checkpoint_of_another_run_is_an_error(
    whole_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    saved = (whole_run / "last.ckpt.safetensors").read_bytes()
    (tmp_path / "last.ckpt.safetensors").write_bytes(saved)
    with pytest.raises(InputError, match=r"5 iterations an epoch, and this run has 4"):
        train(tmp_path, epoch_length=4)
    with pytest.raises(InputError, match=r"the state of network .* does not match this run"):
        train(tmp_path, **{"network_def.channels": [4, 6]})
    assert "Traceback" not in "".join(capfd.readouterr())


def test_early_stopping_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # with a learning rate of 0 no epoch is better than the first
    still = {"learning_rate": 0.0, "ema_decay": 0.0, "patience": 2, "epochs": 9}
    train(tmp_path, epoch_length=1, **still)
    assert read_record(tmp_path / "last.ckpt.safetensors")["iteration"] == 3
    train(tmp_path, epoch_length=1, **still)
    assert read_record(tmp_path / "last.ckpt.safetensors")["iteration"] == 3
