"""The memory that may be used, and the check before a large allocation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from stn3d.errors import InputError
from stn3d.memory.free import free_gb

_GB = 2**30
_FRACTION_OF_FREE = 0.8
_FLOAT_BYTES = 4
_limit_gb: ContextVar[float | None] = ContextVar("memory limit of the process in GB", default=None)


@contextmanager
def memory_limit(gb: float | None) -> Iterator[None]:
    """Limit the memory of the process, for `available_gb` and what calls it.

    Args:
        gb: Limit of the whole process; None for a fraction of the free memory.
    """
    token = _limit_gb.set(gb)
    try:
        yield
    finally:
        _limit_gb.reset(token)


def allowed_gb(limit_gb: float | None) -> tuple[float | None, str]:
    """The memory that a process may take in all, in GB, and who says so; None if unknown.

    Args:
        limit_gb: The limit given; None for 80 % of the free memory.
    """
    if limit_gb is not None:
        return limit_gb, "by --max-memory"
    free = free_gb()
    allowed = None if free is None else _FRACTION_OF_FREE * free
    return allowed, f"{_FRACTION_OF_FREE:.0%} of the free memory"


def available_gb() -> float | None:
    """The memory that may be allocated on top of what the process holds, in GB; None if unknown."""
    limit_gb = _limit_gb.get()
    left = None if limit_gb is None else max(0.0, limit_gb - resident_gb())
    free = allowed_gb(None)[0]
    known = [gb for gb in (left, free) if gb is not None]
    return min(known, default=None)


def memory_shortage(floats: float) -> str | None:
    """Why an allocation is beyond the memory available, as half a sentence; None if it is not.

    Args:
        floats: Number of float32 values.
    """
    needed, available = floats * _FLOAT_BYTES / _GB, available_gb()
    if available is None or needed <= available:
        return None
    return f"about {needed:.3g} GB, and {available:.3g} GB are available"


def require_memory(floats: float, what: str, suggestion: str) -> None:
    """Check that an allocation fits before it is made.

    Args:
        floats: Number of float32 values.
        what: What needs them.
        suggestion: What the user can do.

    Raises:
        InputError: It does not fit.
    """
    shortage = memory_shortage(floats)
    if shortage is not None:
        raise InputError(f"{what} needs {shortage}; {suggestion}.")


def resident_gb() -> float:
    """Memory that this process holds; 0 where the system does not report it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf8")
    except OSError:
        return 0.0
    kilobytes = status.partition("VmRSS:")[2].split()[:1]
    return int(kilobytes[0]) / 2**20 if kilobytes else 0.0
