"""Compiled loops and the threads that run them.

A kernel is a numba function ``kernel(first, last, ...)`` that does planes ``first`` up to ``last``
of a volume without Python's lock; `run` shares the planes among threads. Each plane's work, and the
sums it leaves, are the same however many threads there are, so results are too.

Compiled code is kept in the user's cache folder, under a name made from the sources, and is loaded
from there by the next process.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba.core import config, event
from numpy.typing import NDArray

# No NaN or infinity is assumed away; sums may be reordered so that they fit vector registers.
_FAST = {"reassoc", "contract", "arcp", "nsz"}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call with each set of types; its cached code is reused."""
    settings: Any = config  # its names are made when it is imported
    before = settings.CACHE_DIR
    try:
        if not before and _CACHE is not None:
            settings.CACHE_DIR = str(_CACHE)
        keep = bool(settings.CACHE_DIR)
        return numba.njit(nogil=True, fastmath=_FAST, error_model="numpy", cache=keep)(function)
    finally:
        settings.CACHE_DIR = before


def _cache_folder() -> Path | None:
    """This version's folder in the user's cache; None where none can be written."""
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    folder = root / "stn3d" / f"kernels-{digest[:12]}"
    try:
        fresh = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)  # it is in use
    except OSError:
        return None
    if fresh:
        _drop_unused(folder.parent)
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _drop_unused(root: Path, days: float = 60) -> None:
    """Take away other versions' folders that nobody has used for long."""
    for other in root.glob("kernels-*"):
        try:
            unused_s = time.time() - other.stat().st_mtime
        except OSError:
            continue  # another process was faster
        if unused_s > days * 86_400:
            shutil.rmtree(other, ignore_errors=True)


_CACHE = _cache_folder()


class _Announcer(event.Listener):
    """Says once that loops are being compiled: the first run on a machine takes longer."""

    def __init__(self) -> None:
        self.silent = False

    def on_start(self, event: Any) -> None:
        module = event.data["dispatcher"].py_func.__module__
        if not self.silent and module.startswith(__package__ or "stn3d"):
            self.silent = True
            kept = f"kept in {_CACHE}" if _CACHE is not None else "no cache folder can be written"
            logging.getLogger("stn3d").warning(
                "compiling stn3d's loops for this processor, about half a minute (%s)", kept
            )

    def on_end(self, event: Any) -> None:
        pass


event.register("numba:compile", _Announcer())

_WORTH_A_THREAD = 5_000  # voxels: what is done while a thread wakes up
_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """A forked child has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run(
    kernel: Callable[..., Any], planes: int, *arguments: Any, work: NDArray[Any] | None = None
) -> None:
    """Call ``kernel(first, last, *arguments)`` over slabs of planes, one for each torch thread.

    Args:
        planes: how many there are.
        work: ``(planes,)`` voxels in each of them; all the same, and many, by default.
    """
    global _pool
    slabs = max(1, min(torch.get_num_threads(), planes))
    if work is not None and work.sum() < _WORTH_A_THREAD * slabs:
        slabs = 1
    done = np.arange(planes + 1) if work is None else np.concatenate([[0], np.cumsum(work)])
    shares = done[-1] * np.arange(1, slabs) / slabs
    cuts = [0, *np.searchsorted(done, shares).tolist(), planes]
    if slabs > 1 and _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="stn3d")
    others = [
        _pool.submit(kernel, first, last, *arguments)  # type: ignore[union-attr]
        for first, last in itertools.pairwise(cuts[1:])
    ]
    kernel(cuts[0], cuts[1], *arguments)
    for other in others:
        other.result()
