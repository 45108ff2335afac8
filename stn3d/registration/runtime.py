"""What every run needs: a clock, a history, threads, a device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stn3d.errors import InputError
from stn3d.registration.settings import Device
from stn3d.registration.stages import Progress


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


class History:
    """Passes progress on and keeps the first and last loss of every level."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.levels: list[dict[str, Any]] = []

    def __call__(self, stage: str, spacing_mm: float, iteration: int, loss: float) -> None:
        last = self.levels[-1] if self.levels else {}
        if (last.get("stage"), last.get("spacing_mm")) != (stage, spacing_mm):
            last = {"stage": stage, "spacing_mm": spacing_mm, "first_loss": loss}
            self.levels.append(last)
        last |= {"last_loss": loss, "evaluations": iteration + 1}
        if self.progress is not None:
            self.progress(stage, spacing_mm, iteration, loss)


def device_of(name: Device) -> torch.device:
    """The device of a setting; ``auto`` takes CUDA where there is one.

    Raises:
        InputError: CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "--device cuda is asked for and torch sees no CUDA device; use cpu or auto."
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """So many CPU threads, for a while; None changes nothing."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
