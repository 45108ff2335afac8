"""What commands print: opening line, notes and errors on stderr, results on stdout.

On a terminal, words wrap at its width and the status has a colour; NO_COLOR is respected.
"""

from __future__ import annotations

import logging
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stn3d import __version__
from stn3d.cli import process
from stn3d.errors import GeometryWarning, InputError, MemoryWarning

STATUS_STYLES = {"good": "bold green", "check": "bold yellow", "failed": "bold red"}


def error(sentence: str) -> None:
    """An error as one sentence on stderr."""
    _print(_console(stderr=True), f"stn3d: {sentence}", ("stn3d:", "bold red"))


@contextmanager
def opened(doing: str, quiet: bool, verbose: bool) -> Iterator[Screen]:
    """The screen of a command, with its first line; notes appear on it until it is closed.

    Args:
        doing: what the command does, such as "registering a.nii.gz to b.nii.gz".
        quiet: show errors and the final status line only.
        verbose: show settings, versions and times as well.

    Raises:
        InputError: both quiet and verbose are asked for.
    """
    if quiet and verbose:
        raise InputError("--quiet and --verbose exclude each other; give one of them.")
    screen = Screen(quiet, verbose)
    if not quiet:
        _print(screen.stderr, f"stn3d {__version__}: {doing}", ("stn3d", "bold"))
    with screen.notes():
        yield screen


@dataclass(frozen=True)
class Screen:
    """Prints what a command has to say, as far as it is asked to.

    Args:
        quiet: show errors and the final status line only.
        verbose: show settings, versions and times as well.
        results_aside: print results on stderr, since stdout receives an output.
        stderr: where progress and notes go; a note appears above a live bar on the same console.
    """

    quiet: bool = False
    verbose: bool = False
    results_aside: bool = False
    stderr: Console = field(default_factory=lambda: _console(stderr=True))

    @contextmanager
    def notes(self) -> Iterator[None]:
        """Show stn3d's warnings and log messages as notes on stderr, each once, and no others."""
        shown: set[str] = set()

        def show(message: Warning | str, *_: Any, **__: Any) -> None:
            if str(message) not in shown and not self.quiet:
                shown.add(str(message))
                _print(self.stderr, f"note: {message}", ("note:", "yellow"))

        logger, handler = logging.getLogger("stn3d"), _Handler(show)
        propagates, logger.propagate = logger.propagate, False  # each note is shown once
        logger.addHandler(handler)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for kind in (GeometryWarning, MemoryWarning):
                    warnings.simplefilter("always", category=kind)
                warnings.showwarning = show
                yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagates

    def say(self, text: str) -> None:
        """A sentence on stdout; nothing when quiet."""
        if not self.quiet:
            _print(_console(stderr=self.results_aside), text)

    def doing(self, text: str) -> None:
        """A line on stderr about what is in progress; nothing when quiet."""
        if not self.quiet:
            _print(self.stderr, text)

    def lines(self, lines: Iterable[str]) -> None:
        """Lines of an explanation on stdout, with their indentation; also when quiet."""
        for line in lines:
            _console(stderr=self.results_aside).print(Text(line), soft_wrap=True)

    def status(self, status: str, rest: str) -> None:
        """The final status line: good, check or failed in its colour, with the reason."""
        _print(
            _console(stderr=self.results_aside),
            f"quality: {status}; {rest}",
            (status, STATUS_STYLES.get(status, "bold")),
        )

    def table(self, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table on stdout; the first column to the left, all others to the right."""
        if self.quiet:
            return
        table = Table(box=box.SIMPLE, pad_edge=False)
        for number, name in enumerate(header):
            table.add_column(name, justify="right" if number else "left")
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        width = None if sys.stdout.isatty() else 120  # in a file no row need be broken
        console = Console(stderr=self.results_aside, markup=False, highlight=False, width=width)
        console.print(table)

    def wrote(self, files: Sequence[Path | str], *, final: bool = True) -> None:
        """The files that were written and the seconds since the process began, on stdout.

        Args:
            files: their paths.
            final: no status line follows; when quiet this is the only line then.
        """
        to = sys.stderr if self.results_aside else sys.stdout
        if self.quiet:
            if final and files:
                others = f" and {len(files) - 1} more" if len(files) > 1 else ""
                print(f"wrote {files[0]}{others}", file=to)
            return
        for file in files:
            print(f"wrote {file}", file=to)
        print(f"{process.seconds():.1f} seconds", file=to)

    def beside(self, out_is_stdout: bool) -> Screen:
        """This screen, with results on stderr if stdout receives an output."""
        return replace(self, results_aside=out_is_stdout)


class _Handler(logging.Handler):
    """Shows log messages from WARNING on."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def _print(console: Console, text: str, styled: tuple[str, str] | None = None) -> None:
    """Print one sentence, wrapped on a terminal and in one line elsewhere.

    Args:
        console: where to print it.
        text: the sentence.
        styled: a word of it and the word's style.
    """
    text = " ".join(text.split())
    if console.is_terminal:
        text = textwrap.fill(
            text,
            max(console.width, 20),
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    line = Text(text)
    if styled is not None:
        begin = text.find(styled[0])
        line.stylize(styled[1], begin, begin + len(styled[0]))
    console.print(line, soft_wrap=True)
