"""Compilation of numba kernels, and the threads that run them.

A kernel ``kernel(first, last, ...)`` processes planes ``first`` up to ``last`` of a volume and
releases the GIL; `run` distributes the planes over threads. The computation of each plane does not
depend on the number of threads, so the results do not either.

Compiled code is cached, see `stn3d.kernels.common.cache`.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numba.core import config, event
from numpy.typing import NDArray

from stn3d.kernels.common.cache import RepairingCache, cache_folder

# Sums may be reordered for vectorisation; NaN and infinity are respected.
_FAST = {"reassoc", "contract", "arcp", "nsz"}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call with each set of types, or load its cached code."""
    compiled: Any = numba.njit(nogil=True, fastmath=_FAST, error_model="numpy")(function)
    settings: Any = config  # its attributes are created at import
    before = settings.CACHE_DIR
    try:
        if not os.path.isabs(before):  # NUMBA_CACHE_DIR
            settings.CACHE_DIR = str(_CACHE.path or "")
        if settings.CACHE_DIR:
            compiled._cache = RepairingCache(function)  # what `cache=True` does with numba's own
    finally:
        settings.CACHE_DIR = before
    return compiled


_CACHE = cache_folder()


class _Announcer(event.Listener):
    """Logs one message when kernels are compiled, because that run takes longer."""

    def __init__(self) -> None:
        self.announced = self.has_compiled = False

    def on_start(self, event: Any) -> None:
        module = event.data["dispatcher"].py_func.__module__
        if not module.startswith("stn3d.kernels."):
            return
        self.has_compiled = True
        if not self.announced:
            self.announced = True
            cached = f"not cached, since {_CACHE.reason}" if _CACHE.reason else "cached"
            logging.getLogger("stn3d").warning(
                "compiling stn3d's numba kernels for this CPU, about half a minute (%s)", cached
            )

    def on_end(self, event: Any) -> None:
        pass


_ANNOUNCER = _Announcer()
event.register("numba:compile", _ANNOUNCER)


def is_first_run() -> bool:
    """Whether this process has compiled kernels that later ones load from the cache.

    Code that was just compiled and the same code from the cache round differently, so results of
    this process are not those of later ones.
    """
    return _ANNOUNCER.has_compiled and _CACHE.path is not None


_MIN_VOXELS_PER_THREAD = 5_000  # about what is processed while a thread wakes up
_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    """A forked child does not inherit its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run(
    kernel: Callable[..., Any], planes: int, *arguments: Any, work: NDArray[Any] | None = None
) -> None:
    """Call ``kernel(first, last, *arguments)`` for slabs of planes, one per torch thread.

    Args:
        planes: number of planes.
        work: ``(planes,)`` number of voxels in each plane; by default equal and large.
    """
    global _pool
    slabs = max(1, min(torch.get_num_threads(), planes))
    if work is not None and work.sum() < _MIN_VOXELS_PER_THREAD * slabs:
        slabs = 1
    done = np.arange(planes + 1) if work is None else np.concatenate([[0], np.cumsum(work)])
    targets = done[-1] * np.arange(1, slabs) / slabs
    cuts = [0, *np.searchsorted(done, targets).tolist(), planes]
    if slabs > 1 and _pool is None:
        _pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="stn3d")
    others = [
        _pool.submit(kernel, first, last, *arguments)  # type: ignore[union-attr]
        for first, last in itertools.pairwise(cuts[1:])
    ]
    kernel(cuts[0], cuts[1], *arguments)
    for other in others:
        other.result()
