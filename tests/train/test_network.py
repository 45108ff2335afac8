"""Mixed precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("ignite")

from stn3d.train import (
    DeepSupervision,
)
from tests.helpers.training import train


def test_bfloat16_on_the_cpu(tmp_path: Path) -> None:
    train(tmp_path, amp=True, epochs=1, epoch_length=2)
    seen = []
    network = nn.Conv2d(1, 1, 3)
    network.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    DeepSupervision(network, bfloat16=True)(torch.ones(1, 1, 4, 4))
    DeepSupervision(network, bfloat16=False)(torch.ones(1, 1, 4, 4))
    assert seen == [torch.bfloat16, torch.float32]
