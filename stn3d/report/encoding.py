"""Pixels and arrays as text for a page: data URIs of PNG and JPEG, gzip in base64."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from stn3d.io.deflate import deflated

_JPEG_QUALITY = 90
_SMALL = 128 * 128  # pixels; smaller pictures are stored exactly


def picture_uri(brightness: NDArray[Any]) -> str:
    """A picture as a data URI: JPEG, or PNG of a small one.

    Args:
        brightness: ``(H, W)`` grey or ``(H, W, 3)`` colours from 0 to 1; row 0 at the bottom.
    """
    picture = Pillow.fromarray(_upright(np.round(255 * brightness).astype(np.uint8)))
    if picture.width * picture.height <= _SMALL:
        return _uri(picture, "png")
    return _uri(picture, "jpeg", quality=_JPEG_QUALITY, subsampling=0)


def colour_map_uri(values: NDArray[Any], colours: NDArray[np.uint8]) -> str:
    """Values in colours of a map as a PNG.

    Args:
        values: ``(H, W)`` from 0 to 1; row 0 at the bottom.
        colours: ``(256, 3)`` colours of the values.
    """
    index = np.round(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
    return _indexed(index, colours, np.full(256, 255, np.uint8))


def stencil_uri(opacity: NDArray[Any], colour: tuple[int, int, int]) -> str:
    """One colour of varying opacity as a PNG.

    Args:
        opacity: ``(H, W)`` from 0 to 1; row 0 at the bottom.
        colour: red, green and blue, 0 to 255.
    """
    steps = np.arange(256, dtype=np.uint8)
    index = np.round(15 * np.clip(opacity, 0, 1)).astype(np.uint8)
    alpha = np.minimum(17 * steps.astype(int), 255).astype(np.uint8)
    return _indexed(index, np.tile(np.array(colour, np.uint8), (256, 1)), alpha)


def packed(content: bytes) -> str:
    """Bytes as base64 of gzip."""
    return base64.b64encode(deflated(content, "gzip")).decode("ascii")


def _indexed(index: NDArray[np.uint8], colours: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> str:
    picture = Pillow.fromarray(_upright(index))
    picture.putpalette(colours.tobytes())
    return _uri(picture, "png", transparency=alpha.tobytes())


def _upright(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Row 0 at the top, as files have it."""
    return np.ascontiguousarray(pixels[::-1])


def _uri(picture: Pillow.Image, format: str, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return f"data:image/{format};base64," + base64.b64encode(file.getvalue()).decode("ascii")
