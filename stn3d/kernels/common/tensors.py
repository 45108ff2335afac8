"""Torch tensors as arrays for the numba kernels: always three_axes axes, a 2D image has I = 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.kernels.common.region import Region

Array = NDArray[Any]


def volumes(image: Tensor) -> Array:
    """``(B C, I, J, K)``, in the same memory if contiguous."""
    flat = image.detach().contiguous().flatten(0, 1)
    return (flat if flat.ndim == 4 else flat[:, None]).numpy()


def batches(image: Tensor) -> Array:
    """``(B, C, I, J, K)``, in the same memory if contiguous."""
    image = image.detach().contiguous()
    return (image if image.ndim == 5 else image[:, :, None]).numpy()


def as_field(vectors: Tensor) -> Array:
    """``(3, I, J, K)`` for a field ``(d, *shape)``; in 2D a copy, with first component 0."""
    vectors = vectors.detach()
    if vectors.shape[0] == 2:
        vectors = torch.cat([torch.zeros_like(vectors[:1]), vectors])[:, None]
    return vectors.contiguous().numpy()


def as_matrix(matrix: Tensor, dtype: torch.dtype) -> Array:
    """``(3, 4)`` for a homogeneous matrix ``(d + 1, d + 1)``."""
    d = matrix.shape[-1] - 1
    full = torch.eye(4, dtype=torch.float64)
    full[3 - d :, 3 - d :] = matrix.detach().double().cpu()
    return full[:3].to(dtype).numpy()


def three_axes(values: Sequence[Any], fill: Any) -> list[Any]:
    """One value per axis; in 2D ``fill`` for the first of the three_axes axes."""
    return [fill] * (3 - len(values)) + list(values)


def runs_of(region: Region | None, volume: Array) -> Region:
    """The region, or all voxels of a volume."""
    return Region.full(volume.shape[-3:]) if region is None else region
