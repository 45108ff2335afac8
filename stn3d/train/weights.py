"""The weights that a run ends with, and those that it may start from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from stn3d.errors import InputError
from stn3d.nets.weights import load_weights, save_weights
from stn3d.registration.result import versions
from stn3d.train.handlers import improved

logger = logging.getLogger("stn3d.train")


class ModelFile:
    """Writes ``model.safetensors`` after every epoch that is the best so far.

    Args:
        path: the file.
        network: whose weights are written.
        validator: the evaluator whose key metric tells the best epoch; without one the last is.
        preparation: how images come onto the network's grid, plain JSON values.
        record: of the training, plain JSON values; iteration, metrics and versions are added.
    """

    def __init__(
        self,
        path: str | Path,
        network: nn.Module,
        validator: Any,
        preparation: Mapping[str, Any],
        record: Mapping[str, Any],
    ) -> None:
        self.path, self.network, self.validator = Path(path), network, validator
        self.preparation, self.record = dict(preparation), dict(record)

    def attach(self, engine: Engine) -> None:
        """Follow a trainer, after its validation."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        if self.validator is not None and not improved(self.validator, engine):
            return
        metrics = {} if self.validator is None else dict(self.validator.state.metrics)
        record = self.record | {
            "iterations": engine.state.iteration,
            "validation": {name: float(value) for name, value in metrics.items()},
            "versions": versions(),
        }
        save_weights(self.path, self.network, self.preparation, record)


def start_from(network: nn.Module, path: str | Path | None) -> None:
    """Give a network the weights of a file, to go on from there; None or empty leaves it as it is.

    A head of one level that only the network has stays as at birth, when it changes nothing; one
    that only the file has is left out.

    Raises:
        InputError: the file is of no use, or of another network.
    """
    if not path:
        return
    trained = load_weights(path).network
    mine, theirs = network.state_dict(), trained.state_dict()
    shared = {name: value for name, value in theirs.items() if name in mine}
    unfit = [name for name, value in shared.items() if mine[name].shape != value.shape]
    if type(trained) is not type(network) or unfit or not shared:
        raise InputError(
            f"{path} holds a {type(trained).__name__} with options {trained.options}, and the "
            f"config a {type(network).__name__} with {network.options}; make network_def the same."
        )
    network.load_state_dict(shared, strict=False)
    new, dropped = len(mine) - len(shared), len(theirs) - len(shared)
    note = f"; {new} of {len(mine)} tensors are new, {dropped} of the file's are left out"
    logger.info(f"started from {path}" + note * bool(new or dropped))
