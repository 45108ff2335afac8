"""Colour images from moving to fixed space: every channel, in the data type of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.choices import fill_choice
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.colours import channels_of, colours_of, full_scale, has_alpha
from stn3d.preprocessing.colour import has_bright_background
from stn3d.sampler import Interpolation
from stn3d.transforms import Transform
from stn3d.warp import warp_image
from stn3d.warp.fill import background


def warp_colours(
    colours: NDArray[Any],
    moving_grid: Grid,
    transform: Transform,
    fixed_grid: Grid,
    interpolation: Interpolation = "linear",
    fill: str | float = "auto",
) -> NDArray[Any]:
    """Warp a colour image onto the fixed grid.

    Colours with alpha are interpolated in proportion to their opacity.

    Args:
        colours: ``moving_grid.shape`` colours, see `stn3d.io.colours`.
        moving_grid: grid of the image.
        transform: fixed points to moving points.
        fixed_grid: grid of the output.
        interpolation: ``linear``, ``nearest`` or ``cubic``.
        fill: colour where the image shows nothing: ``auto`` (transparent with alpha, the background
            if that is bright, else black), ``background``, or a number for all channels.

    Returns:
        ``fixed_grid.shape`` colours of the same data type.

    Raises:
        InputError: the fill does not fit the image.
    """
    outside = outside_colour(colours, fill)
    values = torch.from_numpy(np.moveaxis(channels_of(colours), -1, 0).astype(np.float32))[None]
    top, alpha = float(full_scale(colours.dtype)), has_alpha(colours.dtype)
    mixed = alpha and interpolation != "nearest"
    if mixed:
        values[:, :3] *= values[:, 3:] / top
        outside = [*(value * outside[3] / top for value in outside[:3]), outside[3]]
    grids = (moving_grid, transform, fixed_grid)
    moved = torch.cat(
        [
            warp_image(values[:, n : n + 1], *grids, interpolation, value)
            for n, value in enumerate(outside)
        ],
        dim=1,
    )
    if mixed:
        moved[:, :3] *= top / moved[:, 3:].clamp(min=0.5)
    whole = moved.round_().clamp_(0, top)[0].movedim(0, -1).numpy()
    packed = colours_of(whole.astype(colours.dtype[0]))
    assert packed is not None
    return packed


def outside_colour(colours: NDArray[Any], fill: str | float) -> list[float]:
    """The colour outside of an image, a number for each channel.

    Args:
        colours: colours, see `stn3d.io.colours`.
        fill: see `warp_colours`.

    Raises:
        InputError: the fill is NaN or beyond the range of the channels.
    """
    chosen, count = fill_choice(fill), len(colours.dtype.names or ())
    top = full_scale(colours.dtype)
    if chosen == "auto":
        bright = not has_alpha(colours.dtype) and has_bright_background(colours)
        chosen = "background" if bright else 0.0
    if chosen == "background":
        return [background(_channel(colours, n)) for n in range(count)]
    value = float(chosen)
    if not 0 <= value <= top:
        raise InputError(
            f"a colour image of 0 to {top} cannot be filled with {value:g}; give a number of that "
            "range as --fill."
        )
    return [value] * count


def _channel(colours: NDArray[Any], n: int) -> Tensor:
    names = colours.dtype.names or ()
    return torch.from_numpy(colours[names[n]].astype(np.float32))[None, None]
