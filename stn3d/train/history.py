"""Training history as JSON lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from stn3d.io import atomic_write

HISTORY = "history.jsonl"
LogValues = Callable[[Mapping[str, Any]], Mapping[str, float]]


class HistoryLogger:
    """Appends JSON lines to ``history.jsonl``.

    Training lines: iteration, means of the loss and its terms since the last line, learning rates,
    seconds of training, samples per second. Validation lines: iteration and metrics.

    Args:
        folder: Folder of the file.
        log_values: Maps the trainer's output to values to log, such as `LossWithTerms.log_values`.
        optimizer: Optimiser whose learning rates are logged.
        validator: Evaluator whose metrics are logged.
        interval: Iterations between lines.
        samples: Samples of an iteration over all processes.
    """

    def __init__(
        self,
        folder: str | Path,
        log_values: LogValues,
        optimizer: torch.optim.Optimizer,
        validator: Any = None,
        interval: int = 50,
        samples: int = 1,
    ) -> None:
        self.path, self.log_values, self.optimizer = Path(folder) / HISTORY, log_values, optimizer
        self.validator, self.interval, self.samples = validator, interval, samples
        self._sums: dict[str, float] = {}
        self._count, self._seconds, self._since = 0, 0.0, 0.0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after its validation."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._validation)

    def _begin(self, engine: Engine) -> None:
        if self._since == 0:
            self._rewind(engine.state.iteration)
        self._since = time.perf_counter()

    def _rewind(self, iteration: int) -> None:
        """Remove lines after the checkpoint: a resumed run writes them again."""
        lines = [line for line in read_history(self.path) if line["iteration"] <= iteration]
        self._seconds = max((line.get("seconds", 0.0) for line in lines), default=0.0)
        with atomic_write(self.path) as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def _collect(self, engine: Engine) -> None:
        for name, value in self.log_values(engine.state.output).items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._count += 1
        if engine.state.iteration % self.interval:
            return
        now = time.perf_counter()
        elapsed, self._since = now - self._since, now
        self._seconds += elapsed
        self._append(
            {
                "iteration": engine.state.iteration,
                **{name: total / self._count for name, total in self._sums.items()},
                "learning_rates": [group["lr"] for group in self.optimizer.param_groups],
                "seconds": round(self._seconds, 3),
                "samples_per_s": round(self._count * self.samples / elapsed, 4),
            }
        )
        self._sums, self._count = {}, 0

    def _validation(self, engine: Engine) -> None:
        if self.validator is not None and self.validator.state.epoch == engine.state.epoch:
            metrics = {k: float(v) for k, v in self.validator.state.metrics.items()}
            self._append({"iteration": engine.state.iteration, "validation": metrics})

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a history file; an incomplete last line of a killed run is skipped."""
    path, lines = Path(path), []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(json.JSONDecodeError):
            lines.append(json.loads(text))
    return lines
