"""Resampling of a label map by the largest linearly interpolated indicator function."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.kernels.common.dispatch import implementation
from stn3d.kernels.resample.types import Displacement

_WIDE = (torch.int64, torch.uint64, torch.uint32)


def resample_labels(
    labels: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    displacement: Displacement | None = None,
    outside_label: int = 0,
) -> Tensor:
    """Labels at ``matrix x + displacement(x)``: voxels of a cell vote with their linear weights.

    The label with the largest sum of weights wins: that is the label whose linearly interpolated
    indicator function is largest. Of labels whose sums lie within 1e-4 of the largest, the smallest
    label wins, so that a tie does not depend on rounding errors.

    Args:
        labels: ``(1, 1, *own)``, integers or bool.
        matrix: ``(d + 1, d + 1)`` homogeneous, label map indices from output indices.
        shape: output shape.
        displacement: displacement of the sampled points, on the device of the labels.
        outside_label: label beyond the domain of the map.

    Returns:
        ``(1, 1, *shape)`` labels of the same dtype.
    """
    wide = labels.to(torch.int64 if labels.dtype in _WIDE else torch.int32)
    vectors = None if displacement is None else displacement.vectors
    small = wide.shape[2:].numel() < 1 << 31
    module = implementation(__name__, vectors, when=small and wide.device.type == "cpu")
    found: Tensor = module.resample_labels(wide, matrix, tuple(shape), displacement, outside_label)
    return found.to(labels.dtype)
