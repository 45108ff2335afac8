"""The loop of a process that reads files with a library and may die; `stn3d.io.isolated` starts it.

Requests are lines of JSON on standard input. An answer is a line of JSON, followed by the bytes of
its arrays. Memory and CPU time are limited. Nothing slow is imported here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

Answer = tuple[dict[str, Any], list[Any]]  # with arrays, or functions that return them


class RefusedError(Exception):
    """The file cannot be read for a reason that the user should know."""


def serve(requests: Mapping[str, Callable[[Any], Answer]]) -> None:
    """Answer requests until standard input ends.

    Args:
        requests: function of each request; its argument is the one that was sent.
    """
    memory_bytes, cpu_s = (int(word) for word in sys.argv[1:3])
    _limit(memory_bytes, cpu_s)
    out: BinaryIO = os.fdopen(os.dup(1), "wb")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)  # libraries may print
    os.dup2(silent, 2)
    for line in sys.stdin.buffer:
        request, argument = json.loads(line)
        description, arrays = _answer(requests[request], argument)
        out.write(json.dumps(description).encode() + b"\n")
        for item in arrays:
            array = item() if callable(item) else item
            out.write(np.ascontiguousarray(array).data.cast("B"))
        out.flush()


def _limit(memory_bytes: int, cpu_s: int) -> None:
    """Limit memory and CPU time, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, value in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CPU, cpu_s)):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _answer(function: Callable[[Any], Answer], argument: Any) -> Answer:
    try:
        return function(argument)
    except MemoryError:
        return {"error": "memory"}, []
    except RefusedError as error:
        return {"error": str(error)}, []
    except Exception as error:  # whatever a parser may raise
        small = any(word in str(error).lower() for word in ("bad_alloc", "allocat", "memory"))
        return {"error": "memory" if small else ""}, []
