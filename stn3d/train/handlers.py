"""Handlers of MONAI's trainer: checkpoints, seeds, clipped gradients, early stop.

Attach them in the order of `train#handlers`: what changes the weights first, `Checkpoints` last.
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
from stn3d.train.history import HISTORY
from stn3d.train.network import ExponentialMovingAverage
from stn3d.train.state import Stateful, load_state, read_record, save_state

LAST, BEST = "last.ckpt.safetensors", "best.ckpt.safetensors"

logger = logging.getLogger("stn3d.train")


def prepare_output_dir(folder: str | Path, resume: bool = True, writes: bool = True) -> Path:
    """The folder that a run writes to, made if need be.

    Parts of files that a killed run left are taken away; without ``resume`` so are its checkpoints,
    history and events, since the run starts anew.

    Raises:
        InputError: it cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}.") from error
    if writes:
        stale = list(folder.glob(".part-*"))
        if not resume:
            stale += [folder / name for name in (LAST, BEST, HISTORY)]
            stale += folder.glob("events.out.tfevents.*")
        for file in stale:
            file.unlink(missing_ok=True)
    return folder


def last_iteration(folder: str | Path) -> int:
    """The iteration of the last checkpoint in a folder, 0 if there is none."""
    last = Path(folder) / LAST
    return int(read_record(last)["iteration"]) if last.exists() else 0


class Checkpoints:
    """Saves a run every so many iterations and at every epoch's end, and resumes it exactly.

    What is random in a run is a function of its seed and the iteration (`SeedEachIteration`, `InfiniteBatchSampler`), so the
    iteration and the objects' states are all that a resumed run needs.

    Args:
        folder: where ``last.ckpt.safetensors`` and ``best.ckpt.safetensors`` are kept.
        objects: whose states make up the run: the network, the optimiser, ...
        batches: what the trainer reads; a resumed run goes on with the batch that comes next.
        validator: the evaluator whose key metric tells the best epoch, if there is one.
        interval: iterations between two checkpoints.
        resume: go on from ``last.ckpt.safetensors`` if it is there.
        writes: whether this process writes; of several only one does.

    Raises:
        InputError: the checkpoint in the folder is of another run.
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
        """Follow a trainer, after all its other handlers."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)

    def _start(self, engine: Engine) -> None:
        last = self.folder / LAST
        if not (self.resume and last.exists()):
            return
        record, length = read_record(last), engine.state.epoch_length
        if record["epoch_length"] != length:
            raise InputError(
                f"{last} is of a run with epochs of {record['epoch_length']} iterations, and this "
                f"one has {length}; set epoch_length={record['epoch_length']}, or start anew."
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
        # At an epoch's end the validation comes first: see _after_epoch.
        iteration = engine.state.iteration
        if iteration % self.interval == 0 and iteration % engine.state.epoch_length != 0:
            self._save(engine, LAST)

    def _after_epoch(self, engine: Engine) -> None:
        self._save(engine, LAST)
        if self.validator is not None and improved(self.validator, engine):
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


def improved(validator: Any, engine: Engine) -> bool:
    """Whether the trainer's present epoch is the best that a validator has seen."""
    return bool(validator.state.best_metric_epoch == engine.state.epoch)


class ReraiseInputErrors:
    """Passes bad input and Ctrl-C on; MONAI's StatsHandler would print where in the code it was.

    The first handler of an engine, for only the first one hears of errors.
    """

    def attach(self, engine: Engine) -> None:
        """Follow an engine."""
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._pass_on)

    def _pass_on(self, engine: Engine, error: BaseException) -> None:
        if isinstance(error, InputError | KeyboardInterrupt):
            raise error


class SeedEachIteration:
    """SeedEachIteration torch before every iteration, by the run's seed, the iteration and the process.

    So dropout is a function of the iteration, and a resumed run needs no generator's state.
    """

    def __init__(self, seed: int = 0, rank: int = 0) -> None:
        self.seed, self.rank = seed, rank

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._seed)

    def _seed(self, engine: Engine) -> None:
        words = np.random.SeedSequence([self.seed, self.rank, engine.state.iteration])
        torch.manual_seed(int(words.generate_state(1, np.uint64)[0] >> np.uint64(1)))


class UpdateEMA:
    """Has the running average of the weights follow every iteration."""

    def __init__(self, average: ExponentialMovingAverage) -> None:
        self.average = average

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        if self.average.decay > 0:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._follow)

    def _follow(self, engine: Engine) -> None:
        self.average.follow(engine.state.iteration)


class ClipGradients:
    """Scales the gradients down where their norm over all parameters is beyond a limit."""

    def __init__(self, network: nn.Module, max_norm: float = 1.0) -> None:
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._clip)

    def _clip(self, engine: Engine) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class EarlyStopping:
    """Ends a training that has not become better for some epochs.

    Args:
        validator: the evaluator whose key metric counts.
        patience: epochs without a better one; 0 never stops.
    """

    def __init__(self, validator: Any, patience: int = 0) -> None:
        self.validator, self.patience = validator, patience

    def attach(self, engine: Engine) -> None:
        """Follow a trainer, after its validation."""
        if self.patience > 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._check)

    def _check(self, engine: Engine) -> None:
        best, before = self.validator.state.best_metric_epoch, engine.state.epoch - 1
        if best >= 0 and before - best >= self.patience:
            logger.info(f"stopped early: no better epoch than {best} in {self.patience} epochs")
            engine.terminate()
