"""Short training runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("ignite")

from stn3d.train import (
    run_config,
)
from tests.helpers.paths import ROOT

CONFIGS = ROOT / "configs"


TRAIN = CONFIGS / "train.yaml"


TINY: dict[str, Any] = {
    "spatial_dims": 2,
    "shape": [24, 24],
    "spacing_mm": 8.0,
    "num_workers": 0,
    "random_subjects": 4,
    "amp": False,
    "val_samples": 2,
    "epochs": 2,
    "epoch_length": 5,
    "save_interval": 3,
    "log_interval": 2,
    "warmup": 3,
    "network_def.channels": [4, 8],
    "network_def.hidden": [4, 8],
    "network_def.radii": [1, 1],
    "network_def.repeats": [1, 1],
    "network_def.steps": [1, 1],
    "network_def.dropout": 0.2,
    "ema_decay": 0.9,
    "learning_rate": 0.01,
    "device": "cpu",
}


def train(folder: Path, **changes: Any) -> Path:
    """A short run in this process."""
    run_config([TRAIN], TINY | {"output_dir": str(folder)} | changes)
    return folder


def weights_of(folder: Path, name: str = "last.ckpt.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder / name)


def require_equal(a: Path, b: Path) -> None:
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name
