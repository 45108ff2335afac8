"""How far a registration is from what is known of it: labels, landmarks, the true displacement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.losses.masked import masked_mean

# Lengths well below this many voxels cost their square, so that the slope has no jump at zero.
_SOFT_VOX = 0.01


def dice(fixed_labels: Tensor, moved_labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """One minus the soft Dice overlap, from 0 to 1; its mean over the labels that either map holds.

    ``1 - 2 sum(f m) / sum(f^2 + m^2)``, which is 0 only where both are equal, at partial volumes
    too. Milletari et al. 2016, doi:10.1109/3DV.2016.79.

    Args:
        fixed_labels: ``(B, L, *shape)`` share of each label in each voxel; see `one_hot`.
        moved_labels: the same of the moved labels.
        mask: weights of voxels, ``(B or 1, 1, *shape)``.

    Returns:
        A scalar, 0 where there is no label at all; differentiable in both.
    """
    a, b = fixed_labels.flatten(2), moved_labels.flatten(2)
    weight = None if mask is None else mask.to(b).flatten(2)
    weighted = (a if weight is None else weight * a, b if weight is None else weight * b)
    overlap = _dot(weighted[0], b)
    size = _dot(weighted[0], a) + _dot(weighted[1], b)
    present = size > 0
    score = 2 * overlap / torch.where(present, size, 1.0)
    return torch.where(present, 1 - score, 0.0).sum() / present.sum().clamp(min=1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products over the last axis."""
    return torch.einsum("bln,bln->bl", a, b)


def one_hot(labels: Tensor, ids: Sequence[int]) -> Tensor:
    """Which voxels have each of some labels: ``(B, L, *shape)`` float32 zeros and ones.

    Args:
        labels: ``(B, 1, *shape)`` whole numbers.
        ids: the L labels wanted, in any order.
    """
    wanted = torch.as_tensor(tuple(ids), dtype=labels.dtype, device=labels.device)
    return (labels == wanted.reshape(1, -1, *[1] * (labels.ndim - 2))).float()


def common_labels(fixed_labels: Tensor, moving_labels: Tensor, most: int) -> tuple[int, ...]:
    """Labels above 0 that both maps hold; of more than ``most``, some that the maps decide.

    The choice is even over the rising labels, and starts where the sum of the fixed map says: maps
    of a person seen differently bring other labels, the same batch always brings the same.

    Args:
        fixed_labels, moving_labels: ``(B, 1, *shape)`` whole numbers from 0 upward.
        most: this many at most.
    """
    first, second = (torch.bincount(m.flatten().long()) for m in (fixed_labels, moving_labels))
    n = min(len(first), len(second))
    both = (first[:n] > 0) & (second[:n] > 0)
    ids = [i for i in both.nonzero().flatten().tolist() if i > 0]
    if len(ids) <= most:
        return tuple(ids)
    start = int(fixed_labels.sum())
    chosen = {(start + k * len(ids) // most) % len(ids) for k in range(most)}
    return tuple(ids[k] for k in sorted(chosen))


def landmarks(
    transformed_points: Tensor, moving_points: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Mean distance between the transformed fixed landmarks and the moving ones, in their unit.

    Args:
        transformed_points: ``(..., N, d)`` fixed landmarks, transformed; voxels or mm.
        moving_points: the same landmarks in the moving image.
        weight: of the landmarks, ``(..., N)``.

    Returns:
        A scalar, smooth at zero; differentiable in the points.
    """
    return masked_mean(_lengths(transformed_points - moving_points, dim=-1), weight)


def truth_error(displacement: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean length of the difference between a displacement and the true one, in their unit.

    Args:
        displacement: ``(B, d, *shape)`` vectors, usually in voxels.
        truth: the same shape and unit.
        weight: of voxels, ``(B or 1, 1, *shape)``; 0 where the truth is unknown.

    Returns:
        A scalar, smooth at zero; differentiable in both.
    """
    return masked_mean(_lengths(displacement - truth, dim=1).unsqueeze(1), weight)


def _lengths(vectors: Tensor, dim: int) -> Tensor:
    """Euclidean lengths with a round bottom."""
    return ((vectors**2).sum(dim=dim) + _SOFT_VOX**2).sqrt() - _SOFT_VOX
