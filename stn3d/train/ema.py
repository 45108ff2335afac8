"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from stn3d.errors import InputError


class ExponentialMovingAverage:
    """Exponential moving average (EMA) of a network's weights over the iterations.

    With a decay of 0 it is the network itself. In early iterations i the decay is at most
    (1 + i) / (10 + i).

    Args:
        network: The network.
        decay: Weight of the previous average in each iteration, for example 0.999.

    Raises:
        InputError: The decay is not in [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"ema_decay is {decay}; it must be at least 0 and below 1.")
        self.source, self.decay = network, decay
        self.network = network if decay == 0 else copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """Include the network's weights after an iteration, counted from 1."""
        new_weight = 1 - min(self.decay, (1 + iteration) / (10 + iteration))
        for mean, new in zip(self.network.parameters(), self.source.parameters(), strict=True):
            mean.lerp_(new, new_weight)
        for buffer, latest in zip(self.network.buffers(), self.source.buffers(), strict=True):
            buffer.copy_(latest)

    def state_dict(self) -> dict[str, Any]:
        """The average; empty with a decay of 0."""
        return self.network.state_dict() if self.decay > 0 else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the average."""
        if self.decay > 0:
            self.network.load_state_dict(state_dict)
