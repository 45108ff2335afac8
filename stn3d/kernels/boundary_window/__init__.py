"""Multiplication of a field by a separable window that falls to 0 at the boundary."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation
from stn3d.kernels.common.region import Region


def apply_boundary_window(
    vectors: Tensor, weights: Sequence[Tensor], region: Region | None = None, quantile: float = 1.0
) -> float:
    """Multiply a field by a separable window in place, and measure its vectors.

    Args:
        vectors: ``(1, d, *shape)``.
        weights: ``(n,)`` window along each axis; the product of all axes is applied.
        region: voxels where the field is not 0.
        quantile: which quantile of the vectors' lengths to return; lengths of 0 are ignored, and
            a large field is measured in a subset of its rows.

    Returns:
        The length; 0 if all vectors are 0.
    """
    return implementation(__name__, vectors, when=vectors.is_contiguous()).apply_boundary_window(
        vectors, weights, region, quantile
    )
