"""Voxels of formats with a text header: raw, compressed or as text, in one file or in several.

No more is read than the header announces, so a damaged or hostile file cannot fill the memory.
"""

from __future__ import annotations

import bz2
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.io.deflate import DAMAGED, inflater
from stn3d.io.limits import check_length, check_memory

_PIECE = 1 << 20
_MAX_HEADER_BYTES = 1 << 20
_UNREADABLE: tuple[type[Exception], ...] = (*DAMAGED, OverflowError)
_MAX_FILES = 1 << 17
_PATTERN = re.compile(r"[^%]*%0?\d{0,2}[diu][^%]*")  # printf, as in slice_%03d.raw

Encoding = Literal["raw", "deflate", "bzip2", "text", "hex"]


@dataclass(frozen=True)
class Payload:
    """Where the voxels of an image are, and how they are stored.

    Args:
        files: files that hold the data, each an equal part, in order.
        dtype: type of a number in the file.
        shape: lengths of the axes, the fastest first.
        encoding: compression, or numbers as text.
        start: position in each file; -1: the data are at its end.
        skip_lines: lines to skip from there.
        skip_bytes: bytes to skip after these lines, after decompression.
    """

    files: tuple[Path, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    encoding: Encoding = "raw"
    start: int = 0
    skip_lines: int = 0
    skip_bytes: int = 0

    def read(self, name: str) -> NDArray[Any]:
        """The array, the fastest axis first.

        Raises:
            InputError: the data are damaged, truncated or too large.
        """
        count = int(np.prod(self.shape, dtype=object))
        if not self.files or count % len(self.files):
            raise InputError(f"the data files of {name} do not fit its size; correct its header.")
        part = count // len(self.files)
        sizes = [_size(path, name) for path in self.files]
        for path in self.files if self.encoding in ("raw", "deflate") else ():
            packed = self.encoding == "deflate"
            check_length(path, part * self.dtype.itemsize, packed, 0 if packed else self.start)
        check_memory(name, self.shape, self.dtype.itemsize + 4, sum(sizes))  # then as float32
        try:
            numbers = np.empty(count, self.dtype)
            for n, path in enumerate(self.files):
                self._fill(numbers[n * part : (n + 1) * part], path)
        except MemoryError as error:
            raise InputError(
                f"{name} does not fit into the memory; crop or resample it."
            ) from error
        except _UNREADABLE as error:
            raise InputError(
                f"{name} is truncated or damaged; copy or download it again."
            ) from error
        if not self.dtype.isnative:
            numbers = numbers.byteswap(inplace=True).view(self.dtype.newbyteorder("="))
        return numbers.reshape(self.shape, order="F")

    def _fill(self, numbers: NDArray[Any], path: Path) -> None:
        with open(path, "rb") as file:
            at_end = self.start < 0
            file.seek(-numbers.nbytes if at_end else self.start, os.SEEK_END if at_end else 0)
            for _ in range(self.skip_lines):
                if not file.readline():
                    raise EOFError
            if self.encoding in ("text", "hex"):
                file.seek(self.skip_bytes, os.SEEK_CUR)
                self._fill_from_text(numbers, file)
                return
            target = numbers.view(np.uint8).data
            if self.encoding == "raw":
                file.seek(self.skip_bytes, os.SEEK_CUR)
                _fill_raw(target, file)
            else:
                _fill_compressed(target, file, self.encoding, self.skip_bytes)

    def _fill_from_text(self, numbers: NDArray[Any], file: BinaryIO) -> None:
        text = file.read()
        if self.encoding == "hex":
            content = bytes.fromhex(text.decode("ascii", errors="strict"))
            numbers[:] = np.frombuffer(content, self.dtype, count=len(numbers))
            return
        words = text.replace(b",", b" ").split(maxsplit=len(numbers))[: len(numbers)]
        if len(words) < len(numbers):
            raise EOFError
        numbers[:] = np.array(words).astype(np.float64 if self.dtype.kind == "f" else np.int64)


def header_text(file: BinaryIO, path: Path, last: str | None) -> list[str]:
    """Lines of a text header, and the file's position after it.

    Args:
        file: file, at the beginning of the header.
        path: its path, for messages.
        last: keyword of the last line; None: the header ends with an empty line.

    Raises:
        InputError: the header is too long to be one.
    """
    lines: list[str] = []
    while file.tell() < _MAX_HEADER_BYTES:
        line = file.readline(_MAX_HEADER_BYTES)
        text = line.decode("latin-1").rstrip("\r\n")
        if not line or (last is None and not text):
            return lines
        lines.append(text)
        if last is not None and text.partition("=")[0].strip() == last:
            return lines
    raise InputError(f"{path} has a header of over {_MAX_HEADER_BYTES >> 20} MB; check the file.")


def data_file(header: Path, name: str) -> Path:
    """Path of a data file that a header names: beside the header or below.

    Raises:
        InputError: it lies elsewhere, or does not exist.
    """
    folder = Path(os.path.abspath(header.parent))
    path = Path(os.path.normpath(folder / name))
    if "\0" in name or not name.strip() or not path.is_relative_to(folder):
        raise InputError(
            f"{header} names the data file {name!r}, which does not lie beside it or below; "
            "move the data file into the folder of the header and correct the name."
        )
    try:
        found = path.is_file()
    except OSError:  # a name that is too long
        found = False
    if not found:
        raise InputError(f"{header} names the data file {name!r}, which does not exist.")
    return path


def numbered_files(header: Path, words: Sequence[str]) -> list[str]:
    """Names of a numbered series of data files: ``pattern first last [step]``.

    Raises:
        InputError: the words are not such a series.
    """
    pattern, numbers = words[0], list(words[1:4])
    try:
        first, last = (int(number) for number in numbers[:2])
        step = int(numbers[2]) if len(numbers) > 2 else 1
        span = range(first, last + (1 if step > 0 else -1), step)
        if len(span) > _MAX_FILES or not _PATTERN.fullmatch(pattern):
            raise ValueError
        return [pattern % number for number in span]
    except (ValueError, OverflowError) as error:
        raise InputError(f"the data files in {header} cannot be understood; correct it.") from error


def _size(path: Path, name: str) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}).") from error


def _fill_raw(target: memoryview, file: BinaryIO) -> None:
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        done += count


def _fill_compressed(target: memoryview, file: BinaryIO, encoding: str, skip: int) -> None:
    """Decompress until the target is full; several streams may follow one another."""
    new: Callable[[], Any] = bz2.BZ2Decompressor if encoding == "bzip2" else inflater
    unpacker, packed, done = new(), b"", -skip
    while done < len(target):
        if unpacker.eof:
            packed, unpacker = unpacker.unused_data, new()
        if not packed and getattr(unpacker, "needs_input", True):
            packed = file.read(_PIECE)
            if not packed:
                raise EOFError
        limit = min(_PIECE, len(target) - done)
        content = unpacker.decompress(packed, limit)
        packed = getattr(unpacker, "unconsumed_tail", b"")
        start, done = done, done + len(content)
        if done > 0:
            cut = content[max(0, -start) :]
            target[done - len(cut) : done] = cut
