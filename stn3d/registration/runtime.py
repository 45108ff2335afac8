"""What every run needs: timings, progress, threads, a device."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from stn3d.errors import InputError, shown
from stn3d.registration.stages import Progress, ProgressEvent

_MOST_THREADS = 1024


class Clock:
    """Seconds by step, in the order of the steps; those of one name add up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        seconds = self.seconds.get(step, 0.0) + time.perf_counter() - begin
        self.seconds[step] = round(seconds, 3)


@dataclass(frozen=True)
class Step:
    """A step that a registration will take.

    Args:
        name: name of the step, as in `ProgressEvent`.
        work: expected work, in voxel visits of an optimiser's iteration (about 50 ns each on two
            cores).
        in_cascade: whether the step is a stage of the cascade.
    """

    name: str
    work: float
    in_cascade: bool = False


class Tracker:
    """Times the steps of a registration, reports its progress and records the losses.

    Args:
        progress: receives the events; None for nobody.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.levels: list[dict[str, Any]] = []
        """Losses of every level, for metrics.json."""
        self._clock = Clock()
        self._progress = progress
        self._steps: Sequence[Step] = ()
        self._position = 0
        self._fraction = self._planned_at = 0.0
        self._stage = self._stages_before = 0

    @property
    def timings_s(self) -> dict[str, float]:
        """Seconds by step."""
        return self._clock.seconds

    def plan(self, steps: Sequence[Step]) -> None:
        """Set the steps that are still to come; what is done keeps its share of the progress."""
        self._steps, self._position = steps, 0
        self._planned_at, self._stages_before = self._fraction, self._stage

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step; its start is reported, and its work is done when it ends."""
        self(ProgressEvent(name, 0.0))
        with self._clock(name):
            yield
        if self._is_here(name):
            self._fraction = max(self._fraction, self._done(1.0))

    def __call__(self, event: ProgressEvent) -> None:
        """Record an event of a step and pass it on as progress of the whole registration."""
        self._record(event)
        names = [step.name for step in self._steps[self._position :]]
        if event.step in names:
            self._position += names.index(event.step)
        here = self._is_here(event.step)
        if here:
            self._fraction = max(self._fraction, self._done(event.fraction))
        event = replace(event, fraction=self._fraction)
        if here and self._steps[self._position].in_cascade:
            self._stage = self._stages_before + self._count_stages(self._position + 1)
            total = self._stages_before + self._count_stages(len(self._steps))
            event = replace(event, stage=self._stage, stages=total)
        if self._progress is not None:
            self._progress(event)

    def _is_here(self, name: str) -> bool:
        """Whether the step is the current one of the plan."""
        return self._position < len(self._steps) and self._steps[self._position].name == name

    def _count_stages(self, end: int) -> int:
        return sum(step.in_cascade for step in self._steps[:end])

    def _done(self, of_step: float) -> float:
        """The share that is done, given the share of the current step."""
        works = [step.work for step in self._steps]
        done = sum(works[: self._position]) + of_step * works[self._position]
        return self._planned_at + (1 - self._planned_at) * done / (sum(works) or 1.0)

    def _record(self, event: ProgressEvent) -> None:
        if event.loss is None:
            return
        last = self.levels[-1] if self.levels else {}
        if (last.get("stage"), last.get("spacing_mm")) != (event.step, event.spacing_mm):
            last = {"stage": event.step, "spacing_mm": event.spacing_mm, "first_loss": event.loss}
            self.levels.append(last)
        losses = [*last.get("losses", []), float(f"{event.loss:.6g}")]
        last |= {"last_loss": event.loss, "evaluations": event.iteration, "losses": losses}


def device_of(name: str) -> torch.device:
    """The device of a setting; ``auto`` takes CUDA where there is one.

    Raises:
        InputError: CUDA, or a GPU of some number, is asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count <= (device.index or 0):
            found = f"{count} CUDA devices" if count > 1 else f"{count or 'no'} CUDA device"
            numbers = f", numbered from 0 to {count - 1}" if count else ""
            raise InputError(
                f"--device {name} is given, but torch finds {found}{numbers}; use cpu or auto."
            )
    return device


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Set the number of CPU threads for a block; None changes nothing.

    Raises:
        InputError: there are less than 1 or more than 1024 threads.
    """
    if count is not None and not 1 <= count <= _MOST_THREADS:
        raise InputError(
            f"the number of threads is {shown(count)}; give one from 1 to {_MOST_THREADS}."
        )
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
