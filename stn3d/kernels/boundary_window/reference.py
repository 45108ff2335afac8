"""Multiplication of a field by a separable window, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.kernels.boundary_window.lengths import length_quantile, length_stride
from stn3d.kernels.common.region import Region, store_region


def apply_boundary_window(
    vectors: Tensor, weights: Sequence[Tensor], region: Region | None, quantile: float
) -> float:
    """Multiply a copy that is 0 outside the region, measure it, and store the region."""
    part = vectors if region is None else store_region(vectors, region, torch.zeros_like(vectors))
    for axis, weight in enumerate(weights, start=2):
        part.mul_(weight.to(part).reshape([-1 if a == axis else 1 for a in range(part.ndim)]))
    shape = [1] * (5 - part.ndim) + list(part.shape[2:])
    stride = length_stride(shape)
    measured = part[0].reshape(-1, *shape)[:, ::stride, ::stride]
    lengths = torch.linalg.vector_norm(measured, dim=0).cpu().numpy()
    store_region(part, region, vectors)
    return length_quantile(lengths[lengths > 0], quantile)
