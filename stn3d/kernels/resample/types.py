"""The displacement that `resample` takes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Displacement(NamedTuple):
    """A displacement field on its own grid, as `resample` applies it.

    Args:
        vectors: ``(1, d, *own)``; 0 beyond the field's grid.
        matrix: ``(d + 1, d + 1)`` homogeneous, field indices from output indices.
        linear: ``(d, d)``, image voxels from the unit of the vectors.
    """

    vectors: Tensor
    matrix: Tensor
    linear: Tensor
