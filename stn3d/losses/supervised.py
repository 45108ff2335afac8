"""Supervised losses: label overlap, landmark distance, error of the displacement field."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.losses.masked import masked_mean
from stn3d.reductions import voxel_sum

# Distances far below this are penalised quadratically, so that the gradient is continuous at 0.
_SMOOTH_VOX = 0.01


@tensor_arguments()
def dice(fixed_labels: Tensor, moved_labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """One minus the soft Dice coefficient, averaged over the labels present in either map.

    ``1 - 2 sum(f m) / sum(f^2 + m^2)``, from 0 to 1. Only equal maps give 0, also with partial
    volumes. Milletari et al. 2016, doi:10.1109/3DV.2016.79.

    Args:
        fixed_labels: ``(B, L, *shape)`` fraction of each label in each voxel; see `one_hot`.
        moved_labels: Fractions of the warped labels, same shape.
        mask: Voxel weights, ``(B or 1, 1, *shape)``.

    Returns:
        A scalar, 0 without labels; differentiable in both maps.
    """
    a, b = fixed_labels, moved_labels
    weight = None if mask is None else mask.to(b)
    weighted = (a if weight is None else weight * a, b if weight is None else weight * b)
    overlap = voxel_sum(weighted[0] * b, 2)
    size = voxel_sum(weighted[0] * a, 2) + voxel_sum(weighted[1] * b, 2)
    present = size > 0
    score = 2 * overlap / torch.where(present, size, 1.0)
    return torch.where(present, 1 - score, 0.0).sum() / present.sum().clamp(min=1)


@tensor_arguments()
def one_hot(labels: Tensor, ids: Sequence[int]) -> Tensor:
    """One-hot encoding of some labels: ``(B, L, *shape)`` float32 zeros and ones.

    Args:
        labels: ``(B, 1, *shape)`` integers.
        ids: The L labels, in any order.
    """
    wanted = torch.as_tensor(tuple(ids), dtype=labels.dtype, device=labels.device)
    return (labels == wanted.reshape(1, -1, *[1] * (labels.ndim - 2))).float()


@tensor_arguments()
def common_labels(fixed_labels: Tensor, moving_labels: Tensor, max_labels: int) -> tuple[int, ...]:
    """Positive labels present in both maps, at most ``max_labels`` of them.

    A larger set is subsampled evenly in ascending order, starting at an offset derived from the sum
    of the fixed map: different maps select different labels, the same batch always the same ones.

    Args:
        fixed_labels: ``(B, 1, *shape)`` non-negative integers.
        moving_labels: Same shape.
        max_labels: Maximum number of labels.
    """
    first, second = (torch.bincount(m.flatten().long()) for m in (fixed_labels, moving_labels))
    n = min(len(first), len(second))
    both = (first[:n] > 0) & (second[:n] > 0)
    ids = [i for i in both.nonzero().flatten().tolist() if i > 0]
    if len(ids) <= max_labels:
        return tuple(ids)
    start = int(fixed_labels.sum())
    chosen = {(start + k * len(ids) // max_labels) % len(ids) for k in range(max_labels)}
    return tuple(ids[k] for k in sorted(chosen))


@tensor_arguments(["transformed_points", "moving_points"])
def landmarks(
    transformed_points: Tensor, moving_points: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Mean distance between transformed fixed landmarks and moving landmarks.

    Args:
        transformed_points: ``(..., N, d)`` transformed fixed landmarks, in voxels or mm.
        moving_points: ``(..., N, d)`` corresponding moving landmarks, same unit.
        weight: Landmark weights, ``(..., N)``.

    Returns:
        A scalar in the unit of the points, smooth at zero; differentiable in the points.
    """
    return masked_mean(_lengths(transformed_points - moving_points, dim=-1), weight)


@tensor_arguments(["displacement", "truth"])
def truth_error(displacement: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean endpoint error of a displacement field against the ground truth.

    Args:
        displacement: ``(B, d, *shape)`` vectors, usually in voxels.
        truth: True displacement, same shape and unit.
        weight: Voxel weights, ``(B or 1, 1, *shape)``; 0 where the truth is unknown.

    Returns:
        A scalar in the unit of the fields, smooth at zero; differentiable in both.
    """
    return masked_mean(_lengths(displacement - truth, dim=1).unsqueeze(1), weight)


def _lengths(vectors: Tensor, dim: int) -> Tensor:
    """Euclidean lengths, smooth at zero."""
    return ((vectors**2).sum(dim=dim) + _SMOOTH_VOX**2).sqrt() - _SMOOTH_VOX
