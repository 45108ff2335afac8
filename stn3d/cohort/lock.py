"""Locks between processes: one pair is registered by one process at a time.

The kernel holds a lock for as long as the process lives, so a killed run leaves none. flock(2)
works on local disks and, on Linux, on NFS (by the server's byte-range locks), Lustre (mounted with
``flock``), GPFS and BeeGFS (where enabled). Where a file system has no locks the pair is registered
without one: files still appear whole, but two runs may repeat each other's work.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_BUSY = (errno.EAGAIN, errno.EACCES)
_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


class LockedError(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which exists for as long as the block lasts.

    Raises:
        LockedError: another process holds it.
    """
    descriptor = _acquire(path)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink()  # while the lock is held, see `_acquire`
            os.close(descriptor)


def _acquire(path: Path) -> int | None:
    """A descriptor with the lock; None where there are no locks.

    A process that waited for a file that its holder then removed would hold a lock that nobody
    else sees, so the file behind the descriptor must still be the one of that name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        fcntl: Any = importlib.import_module("fcntl")
    except ImportError:  # Windows
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:  # removed by its holder in between
            pass
        except OSError as error:
            os.close(descriptor)
            if error.errno in _BUSY:
                raise LockedError(path.name) from None
            if error.errno not in _UNSUPPORTED:
                raise
            logging.getLogger("stn3d").warning(
                "the file system of %s has no locks: do not start two runs in this folder at once",
                path.parent,
            )
            return None
        os.close(descriptor)
