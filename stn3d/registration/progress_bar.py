"""Progress on stderr: a live bar on a terminal, and a line for each finished level or volume.

Nothing slow is imported here, because the command line imports this module before torch.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:  # it imports torch
    from stn3d.registration.stages import Progress as Report
    from stn3d.registration.stages import ProgressEvent

ShowVolume = Callable[[int, int, int, float], None]
"""Called with how many volumes are done, of how many, the volume's number and its correlation."""

ShowWork = Callable[[int, int, str], None]
"""Called with how many registrations are done, of how many, and what is in progress."""

ShowPair = Callable[[int, int, str, str, float], None]
"""Called with how many pairs of a cohort are finished, of how many, the last one's name, its status
and its seconds; 0 if it was finished before."""

STEPS = {
    "read": "reading the images",
    "prepare": "preparing the images",
    "initialise": "finding the initial transform",
    "features": "segmenting both heads",
    "large_motion": "looking for large displacements",
    "inverse": "inverting the transform",
    "uncertainty": "estimating the registration error",
    "warp": "warping the moving image",
    "metrics": "computing metrics",
    "quality_check": "quality check",
    "save": "saving the results",
}
_WIDE = 100  # columns from which the bar also shows the iteration and the loss
_WINDOW_S = 10.0  # of the progress from which the time left is estimated
_SURE = 0.01, 0.5  # share of the work and seconds from which it can be


@contextmanager
def registration_progress(
    console: Console | None = None, verbose: bool = False
) -> Iterator[Callable[[ProgressEvent], None]]:
    """Show the progress of a registration.

    Args:
        console: Where it is shown. Default: stderr; in a notebook, below the cell.
        verbose: Also show the seconds, and a line for each step besides the levels.
    """
    console = _console() if console is None else console
    if not _is_live(console):
        levels = Levels(lambda line: print(line, file=sys.stderr), verbose)
        yield levels
        levels.finish()
        return
    left = TimeLeft()
    columns = (*_columns(), left)
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        task = bar.add_task(STEPS["read"], total=1.0)
        levels = Levels(lambda line: bar.console.print(line, soft_wrap=True), verbose)

        def show(event: ProgressEvent) -> None:
            levels(event)
            left.update(event.fraction)
            text = described(event, console.width >= _WIDE)
            bar.update(task, description=text, completed=event.fraction)

        yield show
        levels.finish()


@contextmanager
def volume_progress(console: Console | None = None) -> Iterator[ShowVolume]:
    """Show the progress of a series; arguments as for `registration_progress`."""
    console = _console() if console is None else console
    if not _is_live(console):
        yield _volume_line
        return
    columns = (*_columns(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        task = bar.add_task("reading the volumes", total=None)

        def show(done: int, total: int, number: int, correlation: float) -> None:
            text = f"{done} of {total} volumes, correlation of volume {number} {correlation:.4f}"
            bar.update(task, description=text, completed=done, total=total)

        yield show


@contextmanager
def work_progress(console: Console | None = None) -> Iterator[ShowWork]:
    """Show the progress of many registrations; arguments as for `registration_progress`."""
    console = _console() if console is None else console
    if not _is_live(console):
        yield _WorkLines()
        return
    columns = (*_columns(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        task = bar.add_task("reading the images", total=None)

        def show(done: int, total: int, text: str) -> None:
            bar.update(task, description=f"{text} ({done} of {total})", completed=done, total=total)

        yield show


@contextmanager
def pair_progress(total: int, console: Console | None = None) -> Iterator[ShowPair]:
    """Show the progress of a cohort: pairs of each status, and the time left.

    Args:
        total: Number of pairs.
        console: Where it is shown. Default: stderr; in a notebook, below the cell.
    """
    console = _console() if console is None else console
    if not _is_live(console):
        yield _pair_line
        return
    counts: Counter[str] = Counter()
    columns = (*_columns(), MofNCompleteColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    with Progress(
        *columns, console=console, transient=True, expand=True, speed_estimate_period=600
    ) as bar:
        task = bar.add_task("starting the workers", total=total)

        def show(done: int, total: int, name: str, status: str, seconds: float) -> None:
            counts[status] += 1
            text = ", ".join(f"{n} {status}" for status, n in counts.items())
            bar.update(task, description=text, completed=done, total=total)

        yield show


@contextmanager
def chosen_work_progress(progress: ShowWork | bool | None) -> Iterator[ShowWork | None]:
    """The callback of many registrations, as for `chosen_progress`."""
    if isinstance(progress, bool):
        if progress:
            with work_progress() as show:
                yield show
            return
        progress = None
    yield progress


class _WorkLines:
    """Prints a line for each registration that is done."""

    def __init__(self) -> None:
        self._done = 0

    def __call__(self, done: int, total: int, text: str) -> None:
        if done > self._done:
            self._done = done
            print(f"{text} ({done} of {total})", file=sys.stderr)


@contextmanager
def chosen_progress(progress: Report | bool | None) -> Iterator[Report | None]:
    """The callback of a registration: the one given, a bar for True, none for False or None."""
    if isinstance(progress, bool):
        if progress:
            with registration_progress() as show:
                yield show
            return
        progress = None
    yield progress


@contextmanager
def chosen_volume_progress(progress: ShowVolume | bool | None) -> Iterator[ShowVolume | None]:
    """The callback of a series, as for `chosen_progress`."""
    if isinstance(progress, bool):
        if progress:
            with volume_progress() as show:
                yield show
            return
        progress = None
    yield progress


def _console() -> Console:
    """Stderr, or the output of a notebook's cell."""
    default = Console()
    return default if default.is_jupyter else Console(stderr=True)


def _is_live(console: Console) -> bool:
    return console.is_terminal or console.is_jupyter


def described(event: ProgressEvent, wide: bool) -> str:
    """The current step; in a wide line also the iteration and the loss of the level."""
    text = STEPS.get(event.step, event.step)
    if event.levels > 1:
        text += f", level {event.level} of {event.levels}"
    if event.spacing_mm is not None:
        text += f" ({event.spacing_mm:.3g} mm)"
    if wide and event.loss is not None:
        text += f", iteration {event.iteration} of {event.iterations}, loss {event.loss:.4f}"
    return text


class Levels:
    """Prints a line for each level of a stage once it is finished.

    Args:
        show: prints a line.
        verbose: print the seconds, and a line for each other step too.
    """

    def __init__(self, show: Callable[[str], None], verbose: bool = False) -> None:
        self._show, self._verbose = show, verbose
        self._first: ProgressEvent | None = None
        self._last: ProgressEvent | None = None
        self._began_s = 0.0

    def __call__(self, event: ProgressEvent) -> None:
        if self._last is None or _place(self._last) != _place(event):
            self.finish()
            self._first, self._began_s = event, time.perf_counter()
        self._last = event

    def finish(self) -> None:
        """Print the line of what has just finished."""
        first, last = self._first, self._last
        self._first = self._last = None
        if first is None or last is None:
            return
        seconds = f", {time.perf_counter() - self._began_s:.1f} s" if self._verbose else ""
        if last.loss is not None and first.loss is not None and last.spacing_mm is not None:
            level = f", level {last.level} of {last.levels}" if last.levels else ""
            self._show(
                f"{last.step}{level}, {last.spacing_mm:.3g} mm: loss {first.loss:.5f} -> "
                f"{last.loss:.5f} in {last.iteration} iterations{seconds}"
            )
        elif self._verbose and not last.stage:
            self._show(f"{STEPS.get(last.step, last.step)}{seconds}")


def _place(event: ProgressEvent) -> tuple[object, ...]:
    """What an event's line is about; a stage's start, which has no loss yet, is apart."""
    return event.step, event.stage, event.level, event.spacing_mm, event.loss is None


class TimeLeft(ProgressColumn):
    """Time left, from the share of the expected work that was done in the last seconds."""

    max_refresh = 0.5

    def __init__(self) -> None:
        super().__init__()
        self._done: deque[tuple[float, float]] = deque()  # share and time, oldest first

    def update(self, fraction: float) -> None:
        """Note the share that is done."""
        now = time.perf_counter()
        if fraction > 0:
            self._done.append((fraction, now))
        while len(self._done) > 2 and self._done[1][1] < now - _WINDOW_S:
            self._done.popleft()

    def render(self, task: Task) -> Text:
        """Minutes and seconds; nothing before they can be estimated."""
        if not self._done:
            return Text("")
        (first, begin_s), (last, end_s) = self._done[0], self._done[-1]
        if last - first < _SURE[0] or end_s - begin_s < _SURE[1]:
            return Text("")
        left_s = (end_s - begin_s) * (1 - last) / (last - first) - (time.perf_counter() - end_s)
        minutes, seconds = divmod(max(0, round(left_s)), 60)
        return Text(f"{minutes}:{seconds:02d} left", style="cyan")


def _columns() -> tuple[ProgressColumn, ...]:
    description = TextColumn("{task.description}", markup=False)
    return description, BarColumn(bar_width=None), TaskProgressColumn("{task.percentage:>3.0f} %")


def _volume_line(done: int, total: int, number: int, correlation: float) -> None:
    print(f"volume {number}: correlation {correlation:.4f} ({done} of {total})", file=sys.stderr)


def _pair_line(done: int, total: int, name: str, status: str, seconds: float) -> None:
    print(f"{done} of {total}: {name}: {status}, {seconds:.1f} s", file=sys.stderr)
