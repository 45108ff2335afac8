"""Colour maps of displacements and volume changes, legible on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def _ramp(stops: Sequence[str]) -> NDArray[np.uint8]:
    """``(256, 3)`` colours, linear between equally spaced stops."""
    known = np.array([[int(one[k : k + 2], 16) for k in (1, 3, 5)] for one in stops], float)
    at = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(at, np.arange(len(stops)), known[:, c]) for c in range(3)]
    return np.round(np.stack(channels, axis=1)).astype(np.uint8)


SEQUENTIAL = _ramp(["#16202b", "#155e75", "#2aa198", "#b5d67c", "#ffe9a8"])
"""From nothing to the largest value: brightness rises throughout."""

DIVERGING = _ramp(["#1f4e8c", "#6fa3d0", "#f4f4f2", "#e39a6b", "#9c2f1f"])
"""From smaller through no change to larger: blue, white, red."""
