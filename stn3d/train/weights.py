"""Weight files of a training run: the best model, and pretrained weights."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from stn3d.errors import InputError
from stn3d.nets.weights import load_weights, save_weights
from stn3d.registration.folders import versions
from stn3d.train.handlers import is_best_epoch

logger = logging.getLogger("stn3d.train")


class SaveBestModel:
    """Writes ``model.safetensors`` after every epoch that improves the key metric.

    Args:
        path: Output file.
        network: Network whose weights are written.
        validator: Evaluator whose key metric selects the best epoch; None writes every epoch.
        preprocessing: How images are resampled, plain JSON values.
        record: Record of the training, plain JSON values; iteration, metrics and versions are
            added.
        half: Write the weights as float16.
    """

    def __init__(
        self,
        path: str | Path,
        network: nn.Module,
        validator: Any,
        preprocessing: Mapping[str, Any],
        record: Mapping[str, Any],
        half: bool = False,
    ) -> None:
        self.half = half
        self.path, self.network, self.validator = Path(path), network, validator
        self.preprocessing, self.record = dict(preprocessing), dict(record)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after its validation."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _write(self, engine: Engine) -> None:
        if self.validator is not None and not is_best_epoch(self.validator, engine):
            return
        metrics = {} if self.validator is None else dict(self.validator.state.metrics)
        record = self.record | {
            "iterations": engine.state.iteration,
            "validation": {name: float(value) for name, value in metrics.items()},
            "versions": versions(),
        }
        save_weights(self.path, self.network, self.preprocessing, record, self.half)


def bundle_weights(bundle_root: str | os.PathLike[str]) -> str:
    """The weights of a bundle, ``models/model.safetensors``.

    Raises:
        InputError: The bundle has none.
    """
    own = Path(bundle_root) / "models" / "model.safetensors"
    if not own.exists():
        raise InputError(
            f"there is no trained network at {own}; set weights to a file that stn3d train wrote "
            "(see docs/training.md), or register with the optimiser, by stn3d register."
        )
    return str(own)


def load_pretrained(network: nn.Module, path: str | Path | None) -> None:
    """Initialise a network with the weights of a file.

    A level's head that only the network has keeps its initial weights, with which it changes
    nothing; a head that only the file has is ignored.

    Args:
        network: The network.
        path: Weight file; None or empty does nothing.

    Raises:
        InputError: The file is invalid, or of another network.
    """
    if not path:
        return
    trained = load_weights(path).network
    own, given = network.state_dict(), trained.state_dict()
    shared = {name: value for name, value in given.items() if name in own}
    mismatched = [name for name, value in shared.items() if own[name].shape != value.shape]
    if type(trained) is not type(network) or mismatched or not shared:
        raise InputError(
            f"{path} holds a {type(trained).__name__} with options {trained.options}, but the "
            f"config has a {type(network).__name__} with {network.options}; use the same "
            "network_def."
        )
    network.load_state_dict(shared, strict=False)
    new, ignored = len(own) - len(shared), len(given) - len(shared)
    note = f"; {new} of {len(own)} tensors are new, {ignored} of the file are ignored"
    logger.info(f"initialised from {path}" + note * bool(new or ignored))
