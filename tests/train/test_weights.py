"""Pretrained weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("ignite")

from stn3d.errors import InputError
from stn3d.nets.weights import load_weights
from tests.helpers.training import train


def test_training_starts_from_pretrained_weights(whole_run: Path, tmp_path: Path) -> None:
    pretrained = whole_run / "model.safetensors"
    train(
        tmp_path,
        epochs=1,
        epoch_length=1,
        pretrained=str(pretrained),
        learning_rate=0.0,
        ema_decay=0.0,
    )
    begun, given = load_file(tmp_path / "model.safetensors"), load_file(pretrained)
    assert all(torch.equal(v, given[k]) for k, v in begun.items())
    with pytest.raises(InputError, match="use the same network_def"):
        train(tmp_path / "b", pretrained=str(pretrained), **{"network_def.channels": [4, 6]})


def test_pretrained_weights_may_have_more_or_fewer_heads(tmp_path: Path) -> None:
    once = {"epochs": 1, "epoch_length": 1, "ema_decay": 0.0, "network_def.steps": [0, 1]}
    less = {"network_def.hidden": [0, 8]}
    train(tmp_path / "a", **once, **less)
    files = {run: tmp_path / run / "model.safetensors" for run in "abc"}
    train(tmp_path / "b", **once, pretrained=str(files["a"]), learning_rate=0.0)
    train(tmp_path / "c", **once, **less, pretrained=str(files["b"]), learning_rate=0.0)
    first, more, again = (load_weights(file).network for file in files.values())
    pair = torch.rand(1, 2, 24, 24)
    assert len(more.stages(pair)) == len(first.stages(pair)) + 1
    assert torch.allclose(more(pair), first(pair), atol=1e-6)
    assert torch.equal(again(pair), first(pair))
