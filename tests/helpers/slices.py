"""Images of thick slices, interpolated to smaller voxels."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter
from torch import Tensor

from tests.helpers.images import noise

SHAPE = (48, 54, 60)
How = Literal["lines", "splines"]


def texture(shape: tuple[int, ...] = SHAPE, seed: int = 0, blur_vox: float = 0.7) -> Tensor:
    """Structures of all sizes, ``(1, 1, *shape)``."""
    fine, coarse = (
        gaussian_filter(noise(*shape, seed=seed + n).numpy(), (k**2 + blur_vox**2) ** 0.5)
        for n, k in enumerate((0.0, 4.0))
    )
    values = fine / fine.std() + 2 * coarse / coarse.std()
    return torch.from_numpy((values - values.min()) / np.ptp(values) * 0.9 + 0.1).float()[
        None, None
    ]


def acquired(values: Tensor, axis: int, thickness: int) -> Tensor:
    """Means over slices of so many voxels."""
    moved = values.movedim(axis + 2, -1)
    return moved.unflatten(-1, (-1, thickness)).mean(-1).movedim(-1, axis + 2)


def interpolated(slices: Tensor, axis: int, count: int, how: How) -> Tensor:
    """So many voxels along the axis over the same extent."""
    n = slices.shape[axis + 2]
    return at_places(slices, axis, (np.arange(count) + 0.5) * n / count - 0.5, how)


def at_places(slices: Tensor, axis: int, places: NDArray[np.floating], how: How) -> Tensor:
    """Voxels at places among the slices, from 0; beyond the last one as there."""
    n, degree = slices.shape[axis + 2], 1 if how == "lines" else 3
    spline = make_interp_spline(np.arange(n), slices.numpy(), k=degree, axis=axis + 2)
    return torch.from_numpy(spline(np.clip(places, 0, n - 1))).float()
