"""What counts as dark and as bright in an image, whatever its units."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_FLAT = 1e-3  # of the range of intensities: a background without noise spreads no wider
_BRIGHTER = 0.01  # of the voxels: so many are brighter than a background


def limits(values: Tensor, mask: Tensor | None = None) -> tuple[float, float]:
    """The intensity of the background and that of the foreground's brightest half percent.

    The background is the dimmest half percent. Where the image was carried to a grid that reaches
    beyond its field of view, the corners may have been filled with something darker; so a level
    without noise that a quarter of the voxels have, above every corner, is the background instead.

    Args:
        values: ``(1, C, *shape)``.
        mask: ``(1, 1, *shape)`` bool. What it leaves out does not count, if that is less than half
            of the image; a smaller mask marks a part to look at, which would not tell how bright
            the whole is.

    Returns:
        Two intensities; alike if the image is flat.
    """
    seen = values
    if mask is not None and 2 * int(mask.sum()) >= mask.numel():
        seen = values[mask.expand_as(values)]
    few = np.sort(seen.flatten()[:: max(1, seen.numel() // 250_000)].cpu().numpy())
    dark = _background(few, _corners(values))
    bright = few[few > dark]
    if len(bright):
        return dark, float(np.quantile(bright.astype(np.float64), 0.995))
    return float(seen.min()), float(seen.max())


def scaled(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Intensities with the background at 0 and the foreground's brightest at 1, see `limits`.

    They end at 0 and 1.25, so that a few bright voxels do not press the rest together.
    """
    low, high = limits(values, mask)
    span = max(high - low, torch.finfo(values.dtype).tiny)
    return ((values - low) / span).clamp(0, 1.25)


def _background(few: NDArray[np.floating], corners: NDArray[np.floating]) -> float:
    """Of a sample in rising order."""
    low, high = np.quantile(few.astype(np.float64), (0.005, 0.995)).tolist()
    quarter = len(few) // 4
    widths = few[quarter:] - few[: len(few) - quarter]
    narrowest = int(widths.argmin())
    level = float(few[narrowest + quarter])
    flat = widths[narrowest] <= _FLAT * (high - low)
    filled = float(corners.max()) < level - _FLAT * (high - low)
    seen = np.count_nonzero(few > level) > _BRIGHTER * len(few)
    return level if flat and filled and seen else low


def _corners(values: Tensor) -> NDArray[np.floating]:
    for axis in range(2, values.ndim):
        ends = torch.tensor([0, values.shape[axis] - 1], device=values.device)
        values = values.index_select(axis, ends)
    return values.cpu().numpy()
