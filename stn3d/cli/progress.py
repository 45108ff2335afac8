"""Progress of commands; nothing when quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stn3d.cli.screen import Screen
from stn3d.registration.progress_bar import (
    ShowPair,
    ShowVolume,
    ShowWork,
    pair_progress,
    registration_progress,
    volume_progress,
    work_progress,
)

if TYPE_CHECKING:  # it imports torch
    from stn3d.registration.stages import ProgressEvent


@contextmanager
def registration(screen: Screen) -> Iterator[Callable[[ProgressEvent], None]]:
    """The progress of a registration."""
    if screen.quiet:
        yield lambda _: None
        return
    with registration_progress(screen.stderr, screen.verbose) as show:
        yield show


@contextmanager
def volumes(screen: Screen) -> Iterator[ShowVolume]:
    """The progress of a series."""
    if screen.quiet:
        yield lambda *_: None
        return
    with volume_progress(screen.stderr) as show:
        yield show


@contextmanager
def work(screen: Screen) -> Iterator[ShowWork]:
    """The progress of many registrations."""
    if screen.quiet:
        yield lambda *_: None
        return
    with work_progress(screen.stderr) as show:
        yield show


@contextmanager
def cohort(screen: Screen, total: int) -> Iterator[ShowPair]:
    """The progress of a cohort."""
    if screen.quiet:
        yield lambda *_: None
        return
    with pair_progress(total, screen.stderr) as show:
        yield show
