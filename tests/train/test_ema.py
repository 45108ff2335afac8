"""Exponential moving average of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

pytest.importorskip("ignite")

from stn3d.errors import InputError
from stn3d.train import (
    ExponentialMovingAverage,
)
from tests.helpers.training import weights_of


def test_the_average_is_validated_and_saved(whole_run: Path) -> None:
    state = weights_of(whole_run)
    network = {k.removeprefix("network/"): v for k, v in state.items() if k.startswith("network/")}
    apart = [not torch.equal(v, state[f"ema/{k}"]) for k, v in network.items()]
    assert any(apart)
    # the weight file holds the average of the best epoch
    best = weights_of(whole_run, "best.ckpt.safetensors")
    written = load_file(whole_run / "model.safetensors")
    for name, value in written.items():
        assert torch.equal(value, best[f"ema/{name}"])


def test_an_average_follows_its_network() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = ExponentialMovingAverage(network, 0.9)
    nn.init.ones_(network.weight)
    for i in range(1, 100):
        average.update(i)
    assert 0.99 < float(average.network.weight.detach()) < 1
    assert ExponentialMovingAverage(network, 0.0).network is network
    with pytest.raises(InputError, match="ema_decay is 1"):
        ExponentialMovingAverage(network, 1.0)
