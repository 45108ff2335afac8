"""Handlers of MONAI's trainer: checkpoints, seeds, gradient clipping, early stopping.

Attach them in the order of `train::handlers` in the configs: first what changes the weights, last
`Checkpoints`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import nn

from stn3d.data import InfiniteBatchSampler
from stn3d.errors import InputError
from stn3d.train.ema import ExponentialMovingAverage
from stn3d.train.output_folder import BEST, LAST
from stn3d.train.state import Stateful, load_state, read_record, save_state

logger = logging.getLogger("stn3d.train")


def last_iteration(folder: str | Path) -> int:
    """The iteration of the last checkpoint in a folder; 0 without a checkpoint."""
    last = Path(folder) / LAST
    if not last.exists():
        return 0
    record = read_record(last)
    _require_counts(record, last)
    return int(record["iteration"])


def _require_counts(record: Mapping[str, Any], path: Path) -> None:
    """Refuse a record whose counts of iterations and epochs are missing or of another type."""
    counts = [record.get(key) for key in ("iteration", "epoch_length", "best_epoch")]
    if not all(isinstance(one, int) and -1 <= one < 2**63 for one in counts):
        raise InputError(f"the record of {path} is damaged; use another checkpoint, or --fresh.")


class Checkpoints:
    """Saves a run at regular intervals and after every epoch, and resumes it exactly.

    All random numbers of a run are functions of its seed and the iteration (`SeedEachIteration`,
    `InfiniteBatchSampler`), so a resumed run needs only the iteration and the objects' states.

    Args:
        folder: Folder of ``last.ckpt.safetensors`` and ``best.ckpt.safetensors``.
        objects: Objects whose states are saved: the network, the optimiser and others.
        batches: Batch sampler of the trainer; a resumed run continues with the next batch.
        validator: Evaluator whose key metric selects the best epoch.
        interval: Iterations between checkpoints.
        resume: Continue from ``last.ckpt.safetensors`` if it exists.
        writes: Whether this process writes; only one process may.

    Raises:
        InputError: On start: the checkpoint belongs to another run.
    """

    def __init__(
        self,
        folder: str | Path,
        objects: Mapping[str, Stateful],
        batches: InfiniteBatchSampler,
        validator: Any = None,
        interval: int = 500,
        resume: bool = True,
        writes: bool = True,
    ) -> None:
        self.folder, self.objects, self.batches = Path(folder), dict(objects), batches
        self.validator, self.interval = validator, interval
        self.resume, self.writes = resume, writes

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after all its other handlers."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)

    def _start(self, engine: Engine) -> None:
        last = self.folder / LAST
        if not (self.resume and last.exists()):
            return
        record, length = read_record(last), engine.state.epoch_length
        _require_counts(record, last)
        if record["epoch_length"] != length:
            raise InputError(
                f"{last} is from a run with {record['epoch_length']} iterations an epoch, and this "
                f"run has {length}; set epoch_length={record['epoch_length']}, or use --fresh."
            )
        load_state(last, self.objects)
        state = engine.state
        state.iteration, state.epoch = record["iteration"], record["iteration"] // length
        self.batches.start = state.iteration
        if self.validator is not None and record["best_epoch"] >= 0:
            self.validator.state.best_metric = record["best_metric"]
            self.validator.state.best_metric_epoch = record["best_epoch"]
        if self.writes:
            total = state.max_epochs * length
            logger.info(f"resumed {last} after iteration {state.iteration} of {total}")

    def _after_iteration(self, engine: Engine) -> None:
        # At the end of an epoch, validation comes first: see _after_epoch.
        iteration = engine.state.iteration
        if iteration % self.interval == 0 and iteration % engine.state.epoch_length != 0:
            self._save(engine, LAST)

    def _after_epoch(self, engine: Engine) -> None:
        self._save(engine, LAST)
        if self.validator is not None and is_best_epoch(self.validator, engine):
            self._save(engine, BEST)

    def _save(self, engine: Engine, name: str) -> None:
        if not self.writes:
            return
        best = getattr(self.validator, "state", None)
        record = {
            "iteration": engine.state.iteration,
            "epoch_length": engine.state.epoch_length,
            "best_metric": None if best is None else float(best.best_metric),
            "best_epoch": -1 if best is None else best.best_metric_epoch,
        }
        save_state(self.folder / name, self.objects, record)


def is_best_epoch(validator: Any, engine: Engine) -> bool:
    """Whether the trainer's current epoch has the best key metric of a validator so far."""
    return bool(validator.state.best_metric_epoch == engine.state.epoch)


class ReraiseInputErrors:
    """Re-raises input errors and Ctrl-C before MONAI's StatsHandler prints a traceback.

    Must be the first handler of an engine: only the first handler receives exceptions.
    """

    def attach(self, engine: Engine) -> None:
        """Attach to an engine."""
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._reraise)

    def _reraise(self, engine: Engine, error: BaseException) -> None:
        if isinstance(error, InputError | KeyboardInterrupt):
            raise error


class SeedEachIteration:
    """Seeds torch before every iteration from the run's seed, the rank and the iteration.

    Dropout is then a function of the iteration, and a resumed run needs no generator state.
    """

    def __init__(self, seed: int = 0, rank: int = 0) -> None:
        self.seed, self.rank = seed, rank

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._seed)

    def _seed(self, engine: Engine) -> None:
        sequence = np.random.SeedSequence([self.seed, self.rank, engine.state.iteration])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))


class UpdateEMA:
    """Updates the exponential moving average of the weights after every iteration."""

    def __init__(self, ema: ExponentialMovingAverage) -> None:
        self.ema = ema

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        if self.ema.decay > 0:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)

    def _update(self, engine: Engine) -> None:
        self.ema.update(engine.state.iteration)


class ClipGradients:
    """Clips the norm of the gradients over all parameters."""

    def __init__(self, network: nn.Module, max_norm: float = 1.0) -> None:
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._clip)

    def _clip(self, engine: Engine) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class EarlyStopping:
    """Stops a training whose key metric has not improved for some epochs.

    Args:
        validator: Evaluator with the key metric.
        patience: Epochs without improvement; 0 never stops.
    """

    def __init__(self, validator: Any, patience: int = 0) -> None:
        self.validator, self.patience = validator, patience

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after its validation."""
        if self.patience > 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._check)

    def _check(self, engine: Engine) -> None:
        best, previous = self.validator.state.best_metric_epoch, engine.state.epoch - 1
        if best >= 0 and previous - best >= self.patience:
            logger.info(f"stopped early: no improvement since epoch {best}")
            engine.terminate()
