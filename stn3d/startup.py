"""Settings of the process that must be made before torch is imported, and its imports themselves.

GNU OpenMP spins for a millisecond by default. Where another process wants the cores, a registration
then takes three to five times as long; with a hundredth of it an idle machine loses nothing.
Large pages for torch's memory make a new volume cost a third of what it costs in small ones
(Linux; elsewhere nothing changes). While torch is imported, the garbage collector would scan its
several hundred thousand lasting objects again and again, a quarter of a second in all.

A value of OMP_WAIT_POLICY, GOMP_SPINCOUNT or THP_MEM_ALLOC_ENABLE that is set already is kept.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE_BYTES = 32 << 20  # allocations above take pages of their own; glibc allows no more
_KEPT_BYTES = 1 << 30


def set_environment() -> None:
    """Set the variables that torch reads when it is imported; nothing if it is imported already."""
    if "torch" not in sys.modules:
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        if "OMP_WAIT_POLICY" not in os.environ:
            os.environ.setdefault("GOMP_SPINCOUNT", "3000")


@contextmanager
def starting() -> Iterator[None]:
    """Around imports that import torch: its environment is set, the garbage collector is off."""
    set_environment()
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def keep_freed_memory() -> None:
    """Keep freed memory for the next registration instead of returning it to the system.

    For a process that registers one pair after the other: taking new pages takes 5 to 10 % of the
    CPU time, and 20 % where MALLOC_TRIM_THRESHOLD_ is small, as Dask sets it. The process then
    holds up to a third more. Only glibc (Linux) has these settings.
    """
    _malloc("mallopt", _M_MMAP_THRESHOLD, _LARGE_BYTES)
    _malloc("mallopt", _M_TRIM_THRESHOLD, _KEPT_BYTES)


def release_freed_memory() -> None:
    """Return freed memory to the system; does nothing without glibc."""
    gc.collect()
    _malloc("malloc_trim", 0)


def _malloc(function: str, *arguments: int) -> None:
    try:
        getattr(ctypes.CDLL(None), function)(*arguments)
    except (OSError, AttributeError):  # another C library
        return
