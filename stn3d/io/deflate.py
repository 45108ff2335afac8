"""Deflate compression, as used by gzip and HDF5: ISA-L if it is installed, otherwise zlib.

The two produce different bytes of about equal length; every reader accepts both.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

try:
    from isal import igzip as _gzip
    from isal import isal_zlib as _zlib
except ImportError:  # no wheel for this platform
    import gzip as _gzip  # type: ignore[no-redef]
    import zlib as _zlib  # type: ignore[no-redef]

# Higher levels of ISA-L do not compress fields further; zlib's gain 7 % in 1.4 times the time.
_LEVEL = 1
_WINDOW_BITS = {"zlib": 15, "gzip": 31}
_ANY_CONTAINER = 47  # window bits of a decompressor that recognises either

# isal's type stubs declare its exception class as an instance
DAMAGED: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    _zlib.error,  # type: ignore[assignment]
)
"""Exceptions that reading a damaged file may raise."""


def deflated(content: bytes | memoryview, container: Literal["zlib", "gzip"]) -> bytes:
    """Compress; equal content gives equal bytes, since the header holds no time stamp."""
    return b"".join(deflating([content], container))


def deflating(
    pieces: Iterable[bytes | memoryview], container: Literal["zlib", "gzip"]
) -> Iterator[bytes]:
    """Compress a stream piece by piece, see `deflated`."""
    packer = _zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[container])
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def inflater() -> Any:
    """A decompressor of zlib or gzip content, with the methods of `zlib.decompressobj`."""
    return _zlib.decompressobj(_ANY_CONTAINER)


def open_gzip(path: str | Path) -> gzip.GzipFile:
    """Open a gzip file for reading its decompressed content."""
    return _gzip.open(path, "rb")
