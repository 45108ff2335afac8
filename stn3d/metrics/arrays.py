"""Arrays and tensors converted to one form for the metrics, and statistics of lengths."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.arguments import TensorLike, plain_tensor, points_tensor
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.transforms import Transform

Array: TypeAlias = TensorLike


def as_array(values: Array) -> NDArray[Any]:
    """A numpy array that shares memory with the input where possible."""
    return plain_tensor(values).detach().cpu().numpy()


def on_grid(values: Array, grid: Grid) -> NDArray[Any]:
    """An array of shape ``grid.shape``; leading axes of length 1 are removed.

    Raises:
        InputError: the array has another shape.
    """
    array = as_array(values)
    if array.shape[-grid.ndim :] != grid.shape or array.size != grid.num_voxels:
        raise InputError(
            f"an array of shape {array.shape} does not fit the grid {grid.shape}; "
            "resample it to that grid."
        )
    return array.reshape(grid.shape)


def as_image(values: Array, grid: Grid) -> Tensor:
    """A float32 tensor of shape ``(1, 1, *grid.shape)``."""
    array = on_grid(values, grid).astype(np.float32, copy=False)
    return torch.from_numpy(array)[None, None]


def as_mask(mask: Array | None, grid: Grid) -> NDArray[np.bool_]:
    """A bool array of shape ``grid.shape``: voxels above 0, or all voxels without a mask."""
    if mask is None:
        return np.ones(grid.shape, bool)
    values = on_grid(mask, grid)
    return values if values.dtype == bool else values > 0


def as_points(points_mm: Array, transform: Transform) -> Tensor:
    """``(N, d)`` float64 points of the transform's dimension.

    Raises:
        InputError: the points have another shape.
    """
    points = points_tensor(points_mm).to(torch.float64)
    if points.ndim != 2 or points.shape[1] != transform.ndim:
        raise InputError(
            f"the transform takes points (N, {transform.ndim}); got {tuple(points.shape)}."
        )
    return points


def length_statistics(vectors_mm: Tensor) -> dict[str, float]:
    """``mean``, ``p95`` (95th percentile) and ``max`` of vector lengths; NaN without vectors.

    Args:
        vectors_mm: ``(N, d)`` vectors.
    """
    lengths = torch.linalg.vector_norm(vectors_mm.double(), dim=-1).cpu().numpy()
    if not lengths.size:
        return dict.fromkeys(("mean", "p95", "max"), math.nan)
    p95 = float(np.percentile(lengths, 95))
    return {"mean": float(lengths.mean()), "p95": p95, "max": float(lengths.max())}
