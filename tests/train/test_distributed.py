"""Training with several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("ignite")

from stn3d.train import (
    read_record,
    run_config,
)
from tests.helpers.training import CONFIGS, TINY, TRAIN, weights_of

PER_SAMPLE = """
class Loss:  # the mean over a batch is the mean over its samples
    def __call__(self, stages, batch):
        error = ((stages[-1] - batch["displacement_vox"]) ** 2).mean()
        return error, {"error": float(error.detach())}
"""


START = """
import sys, torch
torch.set_num_threads(1)
from stn3d.train import run_config
from stn3d.train.config import parse_override
run_config(sys.argv[1:3], dict(map(parse_override, sys.argv[3:])))
"""


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun with gloo on the CPU; without dropout, which differs between processes."""
    (tmp_path / "per_sample.py").write_text(PER_SAMPLE)
    (tmp_path / "start.py").write_text(START)
    monkeypatch.syspath_prepend(str(tmp_path))
    same = {key: value for key, value in TINY.items() if key not in ("device", "ema_decay")}
    same |= {"network_def.dropout": 0.0, "epochs": 1, "epoch_length": 4, "warmup": 0}
    same |= {"loss": {"_target_": "per_sample.Loss"}, "optimizer._target_": "torch.optim.SGD"}
    both, alone = tmp_path / "both", tmp_path / "alone"
    words = [f"{k}={json.dumps(v)}" for k, v in same.items()] + [f"output_dir={both}"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(tmp_path / "start.py"), str(TRAIN), str(CONFIGS / "multi_gpu_train.yaml")]
    done = subprocess.run(
        [*command, *words],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run_config([TRAIN], same | {"output_dir": str(alone), "batch_size": 2, "device": "cpu"})
    first, second = weights_of(both), weights_of(alone)
    for name, value in first.items():
        if name.startswith("network/"):
            torch.testing.assert_close(value, second[name], atol=1e-6, rtol=1e-4)
    assert read_record(both / "last.ckpt.safetensors")["iteration"] == 4
    assert len(list(both.glob("events.*"))) == 1
    # the weights have changed: another seed of the data gives other weights
    other = tmp_path / "other"
    run_config([TRAIN], same | {"output_dir": str(other), "device": "cpu", "train.dataset.seed": 9})
    elsewhere = weights_of(other)
    apart = [float((v - elsewhere[k]).abs().max()) for k, v in second.items() if "network/" in k]
    assert max(apart) > 1e-4
