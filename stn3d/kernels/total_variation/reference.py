"""Total variation by forward differences of whole fields."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def total_variation_smooth(field: Tensor, weight: float, step: float, iterations: int) -> Tensor:
    """Dual ascent with whole fields."""
    axes = range(2, field.ndim)
    dual = [torch.zeros_like(field) for _ in axes]
    for _ in range(iterations):
        u = field + weight * _divergence(dual)
        dual = [
            p + step / weight * _difference(u, axis) for p, axis in zip(dual, axes, strict=True)
        ]
        squares = torch.stack(dual).square().sum(dim=(0, 2))[:, None]
        norm = squares.sqrt().clamp(min=1)
        dual = [p / norm for p in dual]
    return field + weight * _divergence(dual)


def _difference(u: Tensor, axis: int) -> Tensor:
    """Forward differences along an axis, 0 at its end."""
    return F.pad(u.diff(dim=axis), [0, 0] * (u.ndim - 1 - axis) + [0, 1])


def _divergence(dual: list[Tensor]) -> Tensor:
    """The negative adjoint of the differences."""
    total = torch.zeros_like(dual[0])
    for axis, p in enumerate(dual, start=2):
        inner = p.narrow(axis, 0, p.shape[axis] - 1)
        behind = [0, 0] * (p.ndim - 1 - axis)
        total = total + F.pad(inner, [*behind, 0, 1]) - F.pad(inner, [*behind, 1, 0])
    return total
