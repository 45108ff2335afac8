"""Progress on stderr: a bar on a terminal, else one line for each level or volume."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

Show = Callable[[str, float, int, float], None]
"""Called with the stage's name, the level's spacing in mm, the iteration and the loss."""

ShowVolume = Callable[[int, int, int, float], None]
"""Called with how many volumes are done, of how many, the volume's number and its correlation."""


@contextmanager
def levels(quiet: bool = False) -> Iterator[Show]:
    """The progress of a registration."""
    console = Console(stderr=True)
    if quiet:
        yield lambda *_: None
        return
    if not console.is_terminal:
        lines = _Lines()
        yield lines
        lines.finish()
        return
    with Progress(*_columns(), console=console, transient=True) as bar:
        task = bar.add_task("reading the images", total=None)

        def show(stage: str, spacing_mm: float, iteration: int, loss: float) -> None:
            text = f"{stage}, {spacing_mm:.3g} mm, iteration {iteration + 1}, loss {loss:.5f}"
            bar.update(task, description=text)

        yield show


@contextmanager
def volumes(quiet: bool = False) -> Iterator[ShowVolume]:
    """The progress of a series."""
    console = Console(stderr=True)
    if quiet:
        yield lambda *_: None
        return
    if not console.is_terminal:
        yield _volume_line
        return
    with Progress(*_columns(), console=console, transient=True) as bar:
        task = bar.add_task("reading the volumes", total=None)

        def show(done: int, total: int, number: int, correlation: float) -> None:
            text = f"volume {number}, correlation {correlation:.4f}"
            bar.update(task, description=text, completed=done, total=total)

        yield show


def _columns() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()


def _volume_line(done: int, total: int, number: int, correlation: float) -> None:
    print(f"volume {number}: correlation {correlation:.4f} ({done} of {total})", file=sys.stderr)


class _Lines:
    """One line for each level, once it has ended."""

    def __init__(self) -> None:
        self.level: tuple[str, float] | None = None
        self.first = self.last = 0.0
        self.count = 0

    def __call__(self, stage: str, spacing_mm: float, iteration: int, loss: float) -> None:
        if self.level != (stage, spacing_mm):
            self.finish()
            self.level, self.first = (stage, spacing_mm), loss
        self.last, self.count = loss, iteration + 1

    def finish(self) -> None:
        """Write the line of the level that has ended."""
        if self.level is not None:
            stage, spacing_mm = self.level
            change = f"loss {self.first:.5f} -> {self.last:.5f} in {self.count} iterations"
            print(f"{stage}, {spacing_mm:.3g} mm: {change}", file=sys.stderr)
        self.level = None
