"""Libraries in C++ in a process of its own, so that a damaged file cannot take stn3d down.

Starting it takes as long as importing the library here would: 0.15 s for SimpleITK.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.memory.free import free_gb

_GB = 2**30
_CHILD = Path(__file__).with_name("itk_child.py")
_BOOT = "import json, runpy, sys; sys.path[:] = json.loads(sys.argv.pop(1)); " + (
    "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
)
_MEMORY_BYTES = int(3.5 * _GB)  # for a small file; a larger one may need more
_MEMORY_PER_BYTE = 100  # compressed, then as doubles, then as a copy
_CPU_S = 10
_BYTES_PER_S = 10_000_000  # slowest rate at which a file is read


class Reader:
    """A process that reads files.

    Args:
        name: name of what it reads, in messages.
        process: the process.
        what: what the file should be, and what to give instead, for messages.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], what: tuple[str, str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._name, self._process, (self._what, self._instead) = name, process, what
        self._requests: IO[bytes] = process.stdin
        self._answers: IO[bytes] = process.stdout

    def ask(self, request: str, argument: Any) -> dict[str, Any]:
        """The answer to a request, see `stn3d.child_process`.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            self._requests.write(json.dumps([request, argument]).encode() + b"\n")
            self._requests.flush()
            line = self._answers.readline()
            answer: dict[str, Any] = json.loads(line)
        except (OSError, ValueError) as error:
            raise self._unreadable("it is damaged") from error
        if "error" in answer:
            raise self._unreadable(answer["error"])
        return answer

    def array(self, description: dict[str, Any]) -> NDArray[Any]:
        """The array that follows an answer, of its ``shape`` and ``dtype``.

        Raises:
            InputError: the process ended before it was complete.
        """
        array = np.empty(description["shape"], np.dtype(description["dtype"]))
        left = array.reshape(-1).view(np.uint8).data
        while left:
            count = self._answers.readinto(left)  # type: ignore[attr-defined]
            if not count:
                raise self._unreadable("it is damaged")
            left = left[count:]
        return array

    def _unreadable(self, reason: str) -> InputError:
        if reason == "memory":
            return InputError(
                f"{self._name} needs more memory than a file of its size should; check that it is "
                f"complete, or {self._instead}."
            )
        because = f" ({reason})" if reason else ""
        return InputError(
            f"{self._name} cannot be read as {self._what}{because}; check that it is complete, "
            f"or {self._instead}."
        )


@contextmanager
def reader(
    name: str,
    file_bytes: int,
    child: Path | None = None,
    what: tuple[str, str] = ("an image", "convert it to .nii.gz"),
) -> Iterator[Reader]:
    """Start a process that reads files, and end it.

    Args:
        name: name of what it reads, in messages.
        file_bytes: size of the files, which sets its limits of memory and CPU time.
        child: script of the process. Default: SimpleITK's.
        what: what the file should be, and what to give instead, for messages.
    """
    free = free_gb()
    memory_bytes = max(_MEMORY_BYTES, _MEMORY_PER_BYTE * file_bytes)
    if free is not None:
        memory_bytes = min(memory_bytes, max(_GB, int(free * _GB)))
    limits = [str(memory_bytes), str(_CPU_S + file_bytes // _BYTES_PER_S)]
    process = subprocess.Popen(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            _BOOT,
            json.dumps(sys.path),
            str(child or _CHILD),
            *limits,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Reader(name, process, what)
    finally:
        process.kill()
        process.communicate()
