"""The value of a moved image where the moving image shows nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.choices import fill_choice
from stn3d.errors import InputError
from stn3d.preprocessing.intensity import AIR_HU, looks_like_ct

_BINS = 64
_SAMPLE = 1 << 20


def outside_value(fill: str | float, values: Tensor) -> float:
    """The value outside of an image.

    Args:
        fill: ``auto`` (the background for CT in HU, else 0), ``background``, ``nan`` or a number.
        values: ``(1, C, *shape)`` moving image.

    Raises:
        InputError: the fill is unknown.
    """
    chosen = fill_choice(fill)
    if chosen == "auto":
        return background(values) if looks_like_ct(values) else 0.0
    return background(values) if chosen == "background" else float(chosen)


def outside_label(fill: str | float, name: str) -> int:
    """The label outside of a label map: 0, or the number asked for.

    Args:
        fill: as for `outside_value`; the background of a label map is 0.
        name: name of the label map in messages.

    Raises:
        InputError: the fill is unknown, or is no whole number.
    """
    chosen = fill_choice(fill)
    return 0 if chosen in ("auto", "background") else whole_fill(float(chosen), name)


def whole_fill(value: float, name: str) -> int:
    """The value for an image of whole numbers.

    Raises:
        InputError: the value is no whole number.
    """
    if not value.is_integer():
        raise InputError(
            f"{name} holds whole numbers, which cannot be filled with {value:g}; give a whole "
            "number as --fill, or use --interpolation linear."
        )
    return int(value)


def background(values: Tensor) -> float:
    """The background: the most frequent intensity on the faces of the image; in CT that of air.

    Args:
        values: ``(1, C, *shape)``.

    Returns:
        A value of the image: the median of the most frequent 64th of the range on the faces (in CT,
        of the air anywhere in the image).
    """
    if looks_like_ct(values):
        every = values.flatten()[:: max(1, values.numel() // _SAMPLE)]
        seen = every[(every >= AIR_HU[0]) & (every <= AIR_HU[1])]
    else:
        planes = [values.select(a, k) for a in range(2, values.ndim) for k in (0, -1)]
        seen = torch.cat([plane.flatten() for plane in planes])
    # A few bright voxels on the faces must not widen the bins.
    ordered = seen.sort().values
    low, high = (float(ordered[int(q * (len(ordered) - 1))]) for q in (0.01, 0.99))
    width = (high - low) / _BINS
    if width == 0:
        return low
    bins = ((ordered.double() - low) / width).floor()
    most = bins.mode().values
    return float(ordered[bins == most].median())
