"""Sums over voxels that do not depend on the number of threads.

torch divides a sum to a single number among its threads, so its last digits depend on how many
there are; an optimiser amplifies them to a hundredth of a millimetre. Sums to several
numbers are divided by number, so each of them is added in a fixed order.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROW = 1024  # values that are added in one go; torch adds fewer than 32,768 on one thread


def voxel_sum(values: Tensor, first_axis: int = 0) -> Tensor:
    """Sum over an axis and all axes after it.

    Args:
        values: ``(*kept, *summed)``.
        first_axis: Number of axes that are kept.

    Returns:
        ``(*kept,)``, differentiable.
    """
    flat = values.flatten(first_axis) if first_axis < values.ndim else values[..., None]
    while (count := flat.shape[-1]) > _ROW:
        whole = count - count % _ROW
        rows = flat[..., :whole].unflatten(-1, (-1, _ROW)).sum(-1)
        flat = rows if whole == count else torch.cat([rows, flat[..., whole:]], dim=-1)
    return flat.sum(-1)


def voxel_mean(values: Tensor) -> Tensor:
    """Mean of all values, a scalar; NaN of none."""
    return voxel_sum(values) / values.numel()
