"""Deflate, the compression inside gzip and HDF5: by ISA-L where it is installed, else by zlib.

Files of the two differ in some bytes, are about equally long, and every reader takes both.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

try:
    from isal import igzip as _gzip
    from isal import isal_zlib as _zlib
except ImportError:  # there is no wheel for this machine
    import gzip as _gzip  # type: ignore[no-redef]
    import zlib as _zlib  # type: ignore[no-redef]

_LEVEL = 1  # of both; ISA-L's higher ones gain nothing on a field, zlib's 7 % in 1.4 times the time
_WINDOW_BITS = {"zlib": 15, "gzip": 31}

# isal's stubs take its exception's class for an instance
DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    _zlib.error,  # type: ignore[assignment]
)
"""What reading a damaged file may raise."""


def deflated(content: bytes | memoryview, container: Literal["zlib", "gzip"]) -> bytes:
    """Compress; equal content gives equal bytes, for no time stands in the header."""
    return b"".join(deflating([content], container))


def deflating(
    pieces: Iterable[bytes | memoryview], container: Literal["zlib", "gzip"]
) -> Iterator[bytes]:
    """Compress what comes piece by piece; see `deflated`."""
    packer = _zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[container])
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def open_gzip(path: str | Path) -> gzip.GzipFile:
    """Open a gzip file to read what is inside."""
    return _gzip.open(path, "rb")
