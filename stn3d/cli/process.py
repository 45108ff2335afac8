"""The process of the command line: its start, its slow imports and its end."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from stn3d.startup import starting

_began_s: ContextVar[float] = ContextVar("_began_s")
"""When the command began, on the clock of `time.perf_counter`."""


def begin(*, at_start_of_process: bool = False) -> None:
    """Count `seconds` from now, or from the start of the process."""
    _began_s.set(time.perf_counter() - (process_age_s() if at_start_of_process else 0.0))


def seconds() -> float:
    """Seconds since the command began."""
    return time.perf_counter() - _began_s.get(time.perf_counter())


def process_age_s() -> float:
    """Seconds since this process was started; 0 where the system does not say (only Linux does)."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
    return max(age, 0.0)


@contextmanager
def slow_imports() -> Iterator[None]:
    """Around a command's imports of torch and all that needs it.

    What they create lasts as long as the process, so the garbage collector need not scan it again.
    """
    first = "torch" not in sys.modules
    with starting():
        yield
        if first:
            gc.freeze()
