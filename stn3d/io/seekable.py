"""Random access to the content of a gzip file."""

from __future__ import annotations

import io
import os
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_PACKED = 1 << 14  # compressed bytes read at a time
_STEP = 1 << 20  # decompressed bytes at a time, at most
_GZIP = 31  # zlib's window bits for a gzip container


@dataclass
class _State:
    """A decompressor and its position.

    Args:
        content: number of decompressed bytes.
        packed: number of compressed bytes consumed.
        inflate: zlib's decompressor, which can be copied (that of ISA-L cannot).
    """

    content: int
    packed: int
    inflate: Any

    def copy(self) -> _State:
        return _State(self.content, self.packed, self.inflate.copy())

    def more(self, file: BinaryIO, limit: int) -> bytes:
        """Decompress the next bytes, at most ``limit``; the result may be empty.

        Raises:
            EOFError: end of the file.
        """
        if self.inflate.eof:
            self.inflate = zlib.decompressobj(_GZIP)  # next member of the file
        file.seek(self.packed)
        packed = file.read(_PACKED)
        content = self.inflate.decompress(packed, limit)
        left = self.inflate.unconsumed_tail or self.inflate.unused_data
        if not (packed or content):
            raise EOFError("the compressed file is truncated")
        self.packed += len(packed) - len(left)
        self.content += len(content)
        return content


class SeekableGzip(io.BufferedIOBase):
    """Decompressed content of a gzip file, readable at any position.

    The state of the decompressor (about 50 KB) is stored every few megabytes, so a backward seek
    decompresses at most that much again. The file is open only during a read.

    Args:
        path: gzip file.
        interval: decompressed bytes between two stored states.
    """

    def __init__(self, path: str | os.PathLike[str], interval: int = 1 << 22) -> None:
        self._path, self._interval, self._position = Path(path), interval, 0
        self._state = _State(0, 0, zlib.decompressobj(_GZIP))
        self._stored = [self._state.copy()]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position, relative to the beginning or to the current position."""
        if whence not in (os.SEEK_SET, os.SEEK_CUR):
            raise io.UnsupportedOperation("the end of a gzip file is unknown until it is read")
        self._position = offset + (self._position if whence == os.SEEK_CUR else 0)
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """The next ``size`` bytes of the content.

        Raises:
            ValueError: ``size`` is None or negative.
            EOFError: the content or the file ends first.
            zlib.error: the file is damaged.
        """
        if size is None or size < 0:
            raise ValueError("give the number of bytes to read")
        self._rewind()
        pieces = []
        with open(self._path, "rb") as file:
            while self._state.content < self._position:
                self._step(file, self._position - self._state.content)
            while (remaining := self._position + size - self._state.content) > 0:
                pieces.append(self._step(file, remaining))
        self._position += size
        return b"".join(pieces)

    def _rewind(self) -> None:
        """Restore the last stored state before the position, if the current state is beyond it."""
        if self._position < self._state.content:
            positions = [state.content for state in self._stored]
            self._state = self._stored[bisect_right(positions, self._position) - 1].copy()

    def _step(self, file: BinaryIO, limit: int) -> bytes:
        content = self._state.more(file, min(limit, _STEP))
        if self._state.content >= self._stored[-1].content + self._interval:
            self._stored.append(self._state.copy())
        return content
