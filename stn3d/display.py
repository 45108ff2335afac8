"""Short descriptions of objects, for the prompt and for notebooks."""

from __future__ import annotations

import base64
import html
import math
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_THUMBNAIL = 160  # longest edge in pixels


@dataclass(frozen=True)
class Description:
    """What an object is, in a few words.

    Args:
        kind: name of its class.
        rows: names and values; empty values are omitted.
    """

    kind: str
    rows: Sequence[tuple[str, str]]

    @property
    def text(self) -> str:
        """One line: ``Grid(shape 182 x 218 x 182, spacing 1 mm, orientation RAS)``."""
        known = [f"{name} {value}" for name, value in self.rows if value]
        return f"{self.kind}({', '.join(known)})"

    def html(self, thumbnails: Sequence[NDArray[np.uint8]] = ()) -> str:
        """A small table, and grey pictures ``(rows, columns)`` below it."""
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in self.rows
            if value
        )
        pictures = "".join(
            f"<img src='data:image/png;base64,{base64.b64encode(png(one)).decode()}'>"
            for one in thumbnails
        )
        return (
            f"<div><strong>stn3d.{html.escape(self.kind)}</strong>"
            f"<table>{cells}</table>{pictures}</div>"
        )


class Described(ABC):
    """Abstract base class of objects with a short description."""

    @abstractmethod
    def description(self) -> Description:
        """What the object is, in a few words."""

    def thumbnails(self) -> Sequence[NDArray[np.uint8]]:
        """Small pictures for notebooks."""
        return ()

    def __repr__(self) -> str:
        return self.description().text

    def _repr_html_(self) -> str:
        return self.description().html(self.thumbnails())


def by_x(values: Iterable[Any]) -> str:
    """``182 x 218 x 182``; numbers in up to four significant digits."""
    return " x ".join(f"{value:.4g}" for value in values)


def lengths(values_mm: Sequence[float]) -> str:
    """``1 mm`` if all are equal, else ``1 x 1 x 2 mm``."""
    same = max(values_mm) - min(values_mm) < 1e-4 * max(values_mm)
    return f"{by_x(values_mm[:1] if same else values_mm)} mm"


def components(values: Iterable[float]) -> str:
    """``(1.25, -3, 0)``, to three decimals."""
    rounded = (round(float(value), 3) + 0.0 for value in values)
    return f"({', '.join(f'{value:g}' for value in rounded)})"


def number(value: float, unit: str = "") -> str:
    """``12.3 mm``, in three significant digits; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.3g} {unit}".rstrip()


def thumbnail(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """A plane as a small grey picture.

    Args:
        plane: ``(i, j)`` values, i to the right and j up.
    """
    step = max(1, -(-max(plane.shape) // _THUMBNAIL))
    small = np.nan_to_num(plane[::step, ::step].astype(np.float32))
    low, high = np.percentile(small, (1, 99.5)) if small.size else (0.0, 1.0)
    grey = (small - low) / max(float(high - low), 1e-12)
    return np.ascontiguousarray((255 * grey.clip(0, 1)).astype(np.uint8).T[::-1])


def png(picture: NDArray[np.uint8]) -> bytes:
    """A grey picture ``(rows, columns)`` as a PNG file."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    height, width = picture.shape
    rows = b"".join(b"\0" + row.tobytes() for row in picture)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
