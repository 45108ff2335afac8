"""Learning rates: parameter groups and the schedule."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from stn3d.errors import InputError


def parameter_groups(
    network: nn.Module,
    learning_rate: float,
    part_learning_rates: Mapping[str, float] | None = None,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimiser.

    Args:
        network: The network.
        learning_rate: Default learning rate.
        part_learning_rates: Learning rates of parts of the network, by module name, for example
            ``{"localisation": 1e-4}``. A name matches parameters whose dotted name contains it
            after the start or a dot; the longest match is used.
        weight_decay: Weight decay of weights; biases and normalisation layers have none.

    Raises:
        InputError: A name matches no parameter; the message suggests the closest name.
    """
    rates = dict(part_learning_rates or {})
    _require_matches(network, rates)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        match = max((p for p in rates if "." + p in "." + name), key=len, default=None)
        rate = learning_rate if match is None else rates[match]
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((float(rate), float(decay)), []).append(parameter)
    return [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()]


def _require_matches(network: nn.Module, rates: Mapping[str, float]) -> None:
    names = ["." + name for name, _ in network.named_parameters()]
    for part in rates:
        if not any("." + part in name for name in names):
            known = sorted({module for name in names for module in name.split(".")[1:-1]})
            near = difflib.get_close_matches(part, known, 1, 0)[0]
            raise InputError(f"no parameter belongs to {part!r}; did you mean {near!r}?")


def warmup_cosine(iterations: int, warmup: int = 0, floor: float = 0.0) -> Callable[[int], float]:
    """Factor of the learning rate by iteration: linear warm-up, then cosine decay.

    Args:
        iterations: Total number of iterations.
        warmup: Iterations of the warm-up.
        floor: Factor at the end.
    """

    def factor(iteration: int) -> float:
        if iteration < warmup:
            return (iteration + 1) / warmup
        progress = (iteration - warmup) / max(1, iterations - warmup)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return factor


def warmup_constant(
    warmup: int = 0, decay_start: int = 0, decay: int = 1, floor: float = 0.0
) -> Callable[[int], float]:
    """Factor of the learning rate by iteration: linear warm-up, constant, then cosine decay.

    Unlike with `warmup_cosine`, the length of a run need not be known at its start: it runs at a
    constant rate until it is resumed with a start of the decay.

    Args:
        warmup: Iterations of the warm-up.
        decay_start: Iteration at which the decay starts; 0: never.
        decay: Iterations of the decay.
        floor: Factor at the end of the decay.
    """
    cosine = warmup_cosine(decay, floor=floor)

    def factor(iteration: int) -> float:
        if iteration < warmup:
            return (iteration + 1) / warmup
        return cosine(iteration - decay_start) if 0 < decay_start <= iteration else 1.0

    return factor
