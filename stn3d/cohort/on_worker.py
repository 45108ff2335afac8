"""The task that Dask sees. It holds bytes, so that the scheduler need not import torch."""

from __future__ import annotations

from typing import Any

from stn3d.memory.free import free_gb
from stn3d.memory.limit import resident_gb
from stn3d.startup import keep_freed_memory, release_freed_memory, starting

_PLENTY = 2.0  # times what the process holds; freed memory is kept where so much more is free


def packed(work: Any, task: Any) -> bytes:
    """What a worker does and the pair that it does it with, as bytes."""
    from distributed.protocol import pickle

    content: bytes = pickle.dumps((work, task))
    return content


def on_worker(content: bytes) -> tuple[str, Any]:
    """Work on a pair.

    Args:
        content: from `packed`.

    Returns:
        The worker's address, and what the work returned.
    """
    from distributed import get_worker
    from distributed.protocol import pickle

    keep_freed_memory()
    with starting():  # in a new process this imports torch
        work, task = pickle.loads(content)
    result = work(task)
    if (free := free_gb()) is not None and free < _PLENTY * resident_gb():
        release_freed_memory()
    return get_worker().address, result
