"""What the commands show: progress, notes and errors on stderr, tables on stdout."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from stn3d.registration.stages import ProgressEvent

ShowVolume = Callable[[int, int, int, float], None]
"""Called with how many volumes are done, of how many, the volume's number and its correlation."""

# What is measured, as `stn3d.evaluation.evaluate` calls it, what a table calls it, and its format.
FIGURES = (
    ("fov_overlap_pct", "overlap with the fixed image's field of view, %", ".1f"),
    ("correlation", "correlation", ".4f"),
    ("local_correlation", "local correlation", ".4f"),
    ("dice", "Dice, mean over labels", ".4f"),
    ("hd95_mm", "HD95, mm, mean over labels", ".3f"),
    ("tre_mm", "landmark error (TRE), mm", ".3f"),
    ("true_error_mm", "error vs. ground truth, mm", ".3f"),
    ("folding_pct", "folding, % of voxels", ".4f"),
    ("folding_whole_field_pct", "folding, whole field, % of voxels", ".4f"),
    ("log_jacobian_sd", "SD of log-Jacobian", ".4f"),
    ("inverse_consistency_error_mm", "inverse-consistency error, mm", ".4f"),
    ("framewise_displacement_mean_mm", "framewise displacement, mean, mm", ".3f"),
    ("framewise_displacement_max_mm", "framewise displacement, largest, mm", ".3f"),
    ("rotation_max_deg", "rotation, largest, degrees", ".3f"),
    ("translation_max_mm", "translation, largest, mm", ".3f"),
)


def complain(sentence: str) -> None:
    """One line on stderr."""
    print("stn3d:", " ".join(sentence.splitlines()), file=sys.stderr)


@contextmanager
def notes(*kinds: type[Warning]) -> Iterator[None]:
    """Warnings of some classes as plain lines on stderr, each once; no others."""
    told: set[str] = set()

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in told:
            told.add(str(message))
            print("note:", " ".join(str(message).splitlines()), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in kinds:
            warnings.simplefilter("always", category=kind)
        warnings.showwarning = tell
        yield


@contextmanager
def progress() -> Iterator[Callable[[ProgressEvent], None]]:
    """The progress of a registration on stderr: a bar on a terminal, else one line a level."""
    console = Console(stderr=True)
    if not console.is_terminal:
        lines = _Lines()
        yield lines
        lines.finish()
        return
    with Progress(*_columns(), console=console, transient=True) as bar:
        task = bar.add_task("reading the images", total=1.0)

        def show(event: ProgressEvent) -> None:
            text = event.step
            if event.loss is not None:
                text += f", {event.spacing_mm:.3g} mm, iteration {event.iteration}"
                text += f", loss {event.loss:.5f}"
            bar.update(task, description=text, completed=event.fraction)

        yield show


@contextmanager
def volumes() -> Iterator[ShowVolume]:
    """The progress of a series on stderr: a bar on a terminal, else one line a volume."""
    console = Console(stderr=True)
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

    def __call__(self, event: ProgressEvent) -> None:
        if event.loss is None or event.spacing_mm is None:
            return
        if self.level != (event.step, event.spacing_mm):
            self.finish()
            self.level, self.first = (event.step, event.spacing_mm), event.loss
        self.last, self.count = event.loss, event.iteration

    def finish(self) -> None:
        """Write the line of the level that has ended."""
        if self.level is not None:
            stage, spacing_mm = self.level
            change = f"loss {self.first:.5f} -> {self.last:.5f} in {self.count} iterations"
            print(f"{stage}, {spacing_mm:.3g} mm: {change}", file=sys.stderr)
        self.level = None


def show_figures(**columns: Mapping[str, Any]) -> None:
    """A table of figures, one column for each dictionary; what nobody measured is left out."""
    rows = [
        [label, *(_cell(column.get(key), form) for column in columns.values())]
        for key, label, form in FIGURES
        if any(column.get(key) is not None for column in columns.values())
    ]
    show_table(["", *columns], rows)


def show_decisions(metrics: Mapping[str, Any]) -> None:
    """What a registration decided by itself and why, what was left out, and its quality status."""
    for what, choice in metrics["auto_selected"].items():
        print(f"{what}: {choice['choice']}, since {choice['reason']}")
    if metrics["used_in_optimisation"]:
        what = " and ".join(metrics["used_in_optimisation"])
        print(f"steered by {what} too: their figures are no test of the outcome")
    for role, part in metrics["excluded_regions"].items():
        print(
            f"excluded of the {role} image: {part['volume_ml']:.2f} ml, "
            f"{part['volume_after_ml']:.2f} ml in the other "
            f"({_cell(part['volume_change_pct'], '+.1f')} %; "
            f"its surroundings {_cell(part['surrounding_volume_change_pct'], '+.1f')} %)"
        )
    quality = metrics["quality"]
    suggestion = f" {quality['suggestion']}" if quality["suggestion"] else ""
    print(f"quality: {quality['status']}; {quality['reason']}.{suggestion}")


def show_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout; the first column to the left, all others to the right."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    width = None if sys.stdout.isatty() else 120  # in a file no row need be broken
    Console(markup=False, highlight=False, width=width).print(table)


def show_end(files: Sequence[Path | str], seconds: float | None = None) -> None:
    """The files that were written and, if it is told, the time it took, on stdout."""
    for file in files:
        print(f"wrote {file}")
    if seconds is not None:
        print(f"{seconds:.1f} seconds")


def _cell(value: Any, form: str) -> str:
    """A figure as text; of several, the mean with the 95th percentile and the largest."""
    if isinstance(value, Mapping):
        mean, p95, largest = (_cell(value.get(key), form) for key in ("mean", "p95", "max"))
        return f"{mean} (p95 {p95}, max {largest})"
    return "-" if value is None else format(value, form)
