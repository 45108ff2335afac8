"""A gzip file that is read at any place without starting anew each time."""

from __future__ import annotations

import io
import os
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_PACKED = 1 << 14  # compressed bytes at a time: what is left of them is kept with each state
_STEP = 1 << 20  # of the content, at most, at a time
_GZIP = 31  # zlib's window bits for a gzip container


@dataclass
class _State:
    """A decompressor and where it stands.

    Args:
        content: so many bytes have come out.
        packed: so many bytes of the file went in.
        inflate: zlib's decompressor, which can be copied (ISA-L's cannot).
    """

    content: int
    packed: int
    inflate: Any

    def copy(self) -> _State:
        return _State(self.content, self.packed, self.inflate.copy())

    def more(self, file: BinaryIO, limit: int) -> bytes:
        """The next bytes of the content, at most ``limit``; perhaps none yet.

        Raises:
            EOFError: the file has ended.
        """
        if self.inflate.eof:
            self.inflate = zlib.decompressobj(_GZIP)  # a further member of the file
        file.seek(self.packed)
        packed = file.read(_PACKED)
        content = self.inflate.decompress(packed, limit)
        left = self.inflate.unconsumed_tail or self.inflate.unused_data
        if not (packed or content):
            raise EOFError("the compressed file ended before its content did")
        self.packed += len(packed) - len(left)
        self.content += len(content)
        return content


class SeekableGzip(io.BufferedIOBase):
    """What is inside a gzip file; reads may go forward and backward.

    The decompressor's state (some 50 KB) is kept every few megabytes of the content, so going back
    costs no more than those. The file is open only during a read.

    Args:
        path: the gzip file.
        apart: bytes of the content between two states that are kept.
    """

    def __init__(self, path: str | os.PathLike[str], apart: int = 1 << 22) -> None:
        self._path, self._apart, self._at = Path(path), apart, 0
        self._state = _State(0, 0, zlib.decompressobj(_GZIP))
        self._kept = [self._state.copy()]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the content, counted from its beginning or from here."""
        if whence not in (os.SEEK_SET, os.SEEK_CUR):
            raise io.UnsupportedOperation("the end is not known before it is read")
        self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """The next ``size`` bytes of the content.

        Raises:
            ValueError: no size is given.
            EOFError: the content, or the file, ends before.
            zlib.error: the file is damaged.
        """
        if size is None or size < 0:
            raise ValueError("give the number of bytes to read")
        self._go_back()
        pieces = []
        with open(self._path, "rb") as file:
            while self._state.content < self._at:
                self._step(file, self._at - self._state.content)
            while (left := self._at + size - self._state.content) > 0:
                pieces.append(self._step(file, left))
        self._at += size
        return b"".join(pieces)

    def _go_back(self) -> None:
        """To the nearest state that was kept, unless what is wanted lies ahead."""
        if self._at < self._state.content:
            places = [state.content for state in self._kept]
            self._state = self._kept[bisect_right(places, self._at) - 1].copy()

    def _step(self, file: BinaryIO, limit: int) -> bytes:
        content = self._state.more(file, min(limit, _STEP))
        if self._state.content >= self._kept[-1].content + self._apart:
            self._kept.append(self._state.copy())
        return content
