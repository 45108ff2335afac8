"""Colour images: RGB and RGBA voxels of 8 or 16 bits.

Convention: an array of colours has one structured element per voxel with the fields R, G, B and
perhaps A, as nibabel has it for RGB24 and RGBA32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

REC_709 = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in the luminance (ITU-R BT.709)."""

_NAMES = ("R", "G", "B", "A")
_INTEGERS = (np.dtype(np.uint8), np.dtype(np.uint16))


def is_colour(dtype: Any) -> bool:
    """Whether a data type is that of colours."""
    return np.dtype(dtype).names is not None


def has_alpha(dtype: Any) -> bool:
    """Whether colours have an alpha channel."""
    return len(np.dtype(dtype).names or ()) == len(_NAMES)


def full_scale(dtype: Any) -> int:
    """The largest value of a channel."""
    return int(np.iinfo(np.dtype(dtype)[0]).max)


def colours_of(channels: NDArray[Any]) -> NDArray[Any] | None:
    """Colours of an array with a last axis of channels; None if these are no colours.

    Args:
        channels: ``(*shape, C)``: 3 or 4 channels of uint8 or uint16.
    """
    dtype, count = channels.dtype.newbyteorder("="), channels.shape[-1]
    if count not in (3, 4) or dtype not in _INTEGERS:
        return None
    plain = np.ascontiguousarray(channels, dtype=dtype)
    return plain.view([(name, dtype) for name in _NAMES[:count]])[..., 0]


def channels_of(colours: NDArray[Any]) -> NDArray[Any]:
    """``(*shape, C)`` channels of colours."""
    names = colours.dtype.names or ()
    return np.stack([colours[name] for name in names], axis=-1)


def opacity(colours: NDArray[Any]) -> NDArray[np.float32] | None:
    """Alpha from 0 to 1; None where the colours have none."""
    if not has_alpha(colours.dtype):
        return None
    return colours["A"].astype(np.float32) / np.float32(full_scale(colours.dtype))


def luminance(colours: NDArray[Any]) -> NDArray[np.float32]:
    """Luminance in the unit of the channels (Rec. 709, of the values as stored), times opacity."""
    pairs = zip(REC_709, _NAMES, strict=False)
    total: NDArray[Any] = sum(  # type: ignore[assignment]
        np.float32(weight) * colours[name].astype(np.float32) for weight, name in pairs
    )
    alpha = opacity(colours)
    return total if alpha is None else total * alpha
