"""A network as the trainer calls it, its running average, and its parameters' learning rates."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from stn3d.errors import InputError


@runtime_checkable
class MultiStageNetwork(Protocol):
    """A network that tells what it has after each of its stages."""

    def stages(self, pair: Tensor) -> tuple[Tensor, ...]:
        """The answer after each stage, coarse to fine."""


class DeepSupervision(nn.Module):
    """A network whose forward gives all its stages: so DistributedDataParallel sees them go by.

    Args:
        network: with ``stages``, or with a forward that counts as the one stage.
        bfloat16: compute in bfloat16 where torch's autocast holds that safe. Its range is
            float32's, so that no loss need be scaled; on the CPU too.
    """

    def __init__(self, network: nn.Module, bfloat16: bool = False) -> None:
        super().__init__()
        self.network = network
        self.low_precision = bfloat16  # a module's own bfloat16() turns its weights

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.low_precision):
            if isinstance(self.network, MultiStageNetwork):
                return self.network.stages(images)
            return (self.network(images),)


class ExponentialMovingAverage:
    """A network's running average over the iterations, often better than its last weights.

    With a decay of 0 it is the network itself. Early on the decay is smaller, (1 + i) / (10 + i).

    Args:
        network: the network.
        decay: share of the average that one iteration keeps, such as 0.999.
    """

    def __init__(self, network: nn.Module, decay: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"ema_decay is {decay}; give a number from 0 to below 1.")
        self.source, self.decay = network, decay
        self.network = network if decay == 0 else _copied(network)

    @torch.no_grad()
    def follow(self, iteration: int) -> None:
        """Take in the network as it is after an iteration, counted from 1."""
        i = iteration
        share = 1 - min(self.decay, (1 + i) / (10 + i))
        for mine, new in zip(self.network.parameters(), self.source.parameters(), strict=True):
            mine.lerp_(new, share)
        for own, last in zip(self.network.buffers(), self.source.buffers(), strict=True):
            own.copy_(last)

    def state_dict(self) -> dict[str, Any]:
        """The average; nothing where it is the network itself."""
        return self.network.state_dict() if self.decay > 0 else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take an average."""
        if self.decay > 0:
            self.network.load_state_dict(state_dict)


def _copied(network: nn.Module) -> nn.Module:
    twin = copy.deepcopy(network)
    return twin.requires_grad_(False)


def parameter_groups(
    network: nn.Module,
    learning_rate: float,
    rates: Mapping[str, float] | None = None,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Groups of parameters for a torch optimiser.

    Args:
        network: whose parameters are meant.
        learning_rate: of all that no prefix names.
        rates: learning rates of their own, by what parameters' names begin with, or go on with
            after a dot; for example ``{"localisation": 1e-4}``. The longest that fits counts.
        weight_decay: of weights; biases and normalisation have none.

    Raises:
        InputError: no parameter's name fits one of the rates; the nearest one is named.
    """
    rates = dict(rates or {})
    names = ["." + name for name, _ in network.named_parameters()]
    for part in rates:
        if not any("." + part in name for name in names):
            known = sorted({one for name in names for one in name.split(".")[1:-1]})
            near = difflib.get_close_matches(part, known, 1, 0)[0]
            raise InputError(f"no parameter's name has a part {part!r}; did you mean {near!r}?")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        fitting = max((p for p in rates if "." + p in "." + name), key=len, default=None)
        rate = learning_rate if fitting is None else rates[fitting]
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((float(rate), float(decay)), []).append(parameter)
    return [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()]


def warmup_cosine(iterations: int, warmup: int = 0, floor: float = 0.0) -> Callable[[int], float]:
    """The learning rate's factor at an iteration: up along a line, then down along a cosine.

    Args:
        iterations: how many there will be.
        warmup: how many of them go up.
        floor: the factor at the end.
    """

    def factor(iteration: int) -> float:
        if iteration < warmup:
            return (iteration + 1) / warmup
        way = (iteration - warmup) / max(1, iterations - warmup)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, way)))

    return factor
