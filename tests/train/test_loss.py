"""Training lowers the loss."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ignite")

from stn3d.train import (
    read_history,
)
from tests.helpers.training import train


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    two = {
        "_target_": "stn3d.data.InfiniteDataset",
        "dataset": "@validate::dataset",
    }  # to overfit
    changes = {"train.dataset": two, "network_def.dropout": 0.0, "ema_decay": 0.0}
    train(tmp_path, epochs=1, epoch_length=60, **changes)
    lines = [line for line in read_history(tmp_path / "history.jsonl") if "loss" in line]
    first, last = (sum(x["loss"] for x in part) for part in (lines[:5], lines[-5:]))
    assert last < 0.8 * first
