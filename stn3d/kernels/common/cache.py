"""Where compiled kernels are kept: a folder that nobody else can write to.

numba's cache files are pickles and machine code, so whoever writes there runs code in this process.
The folder is therefore used only if it and all folders above it belong to this user or root and
nobody else may write to them. Otherwise kernels are compiled in memory by every process.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from numba.core.caching import FunctionCache


class CacheFolder(NamedTuple):
    """The folder of compiled kernels; None with the reason if there is none."""

    path: Path | None
    reason: str


def cache_folder() -> CacheFolder:
    """The folder for kernels compiled from these sources, created if needed."""
    try:
        root = _root()
        folder = root / "stn3d" / f"kernels-{_digest_of_sources()}"
        is_new = not folder.exists()
        _make_private(folder)
        reason = reason_against(folder)
        if reason is None:
            os.utime(folder)  # marks it as used
            if is_new:
                _remove_unused(folder.parent)
            return CacheFolder(folder, "")
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        reason = getattr(error, "strerror", None) or str(error)
    return CacheFolder(None, reason)


def _root() -> Path:
    """The user's cache folder. Relative paths would be below the folder of the data: ignored.

    See the XDG Base Directory Specification, which says the same.
    """
    if sys.platform == "win32":
        variable, default = "LOCALAPPDATA", ("AppData", "Local")
    elif sys.platform == "darwin":
        variable, default = "", ("Library", "Caches")
    else:
        variable, default = "XDG_CACHE_HOME", (".cache",)
    given = Path(os.environ.get(variable, "") if variable else "")
    root = given if given.is_absolute() else Path.home().joinpath(*default)
    if not root.is_absolute():
        raise RuntimeError(f"the home folder {Path.home()} is not an absolute path")
    return root


def _digest_of_sources() -> str:
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(one.read_bytes() for one in sources)).hexdigest()[:12]


def _make_private(folder: Path) -> None:
    """Create a folder and the missing ones above it, for this user alone."""
    for one in (*reversed(folder.parents), folder):
        if not one.exists():
            with suppress(FileExistsError):  # by another process in between
                one.mkdir(mode=0o700)


def reason_against(folder: Path) -> str | None:
    """Why someone else could put files into a folder, or this user cannot; None if all is well.

    Args:
        folder: existing folder, absolute. Both its path as given and the path without symbolic
            links are checked. Where the system has no user numbers, only access is.
    """
    real = folder.resolve()
    if hasattr(os, "getuid"):
        for one in dict.fromkeys((real, *real.parents, folder, *folder.parents)):
            entry = one.stat()
            if entry.st_uid not in (0, os.getuid()):
                return f"{one} belongs to another user"
            # in a sticky folder such as /tmp, others cannot replace what is ours
            open_to_others = entry.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if open_to_others and not (entry.st_mode & stat.S_ISVTX and one != real):
                return f"other users may write to {one}; remove that right with chmod go-w"
    return None if os.access(real, os.W_OK | os.X_OK) else f"{folder} is not writable"


def _remove_unused(root: Path, days: float = 60) -> None:
    """Remove the folders of other versions that have not been used for some time."""
    for other in root.glob("kernels-*"):
        try:
            unused_s = time.time() - other.stat().st_mtime
        except OSError:
            continue  # another process has removed it
        if unused_s > days * 86_400:
            shutil.rmtree(other, ignore_errors=True)


class RepairingCache(FunctionCache):
    """numba's cache of one function, which replaces damaged files instead of raising their errors.

    A cache is never needed: a kernel that cannot be loaded is compiled, and one that cannot be
    stored, on a full disk for example, is compiled again by the next process.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for a signature; None if it must be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged pickle raises whatever it likes
            _report(self.cache_path, error)
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store a compiled function."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _report(self.cache_path, error)


def _report(path: Any, error: Exception) -> None:
    logging.getLogger("stn3d").debug("kernel cache %s: %r", path, error)
