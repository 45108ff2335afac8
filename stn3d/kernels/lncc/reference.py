"""Local normalised cross-correlation by sums over windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.kernels.box_sum.reference import box_sum, window_sizes
from stn3d.kernels.common.region import Region


def lncc(
    fixed: Tensor,
    moved: Tensor,
    weight: Tensor | None,
    radii: Sequence[int],
    noise_fixed: float,
    noise_moved: float,
    windows: Region | None = None,
) -> Tensor:
    """The definition, over all windows: those outside ``windows`` have no texture, so weight 0."""
    if weight is None:
        a, b = fixed, moved
        count = torch.ones((), dtype=fixed.dtype, device=fixed.device)
        for n, radius in zip(fixed.shape[2:], radii, strict=True):
            count = count[..., None] * window_sizes(n, radius, fixed)
    else:
        a, b = fixed * weight, moved * weight
        count = box_sum(weight, radii).clamp(min=1e-6)
    mean_a, mean_b = box_sum(a, radii) / count, box_sum(b, radii) / count
    var_a = (box_sum(a * fixed, radii) / count - mean_a**2).clamp(min=0)
    var_b = (box_sum(b * moved, radii) / count - mean_b**2).clamp(min=0)
    cross = box_sum(a * moved, radii) / count - mean_a * mean_b
    squared = cross**2 / ((var_a + noise_fixed) * (var_b + noise_moved))
    texture = var_a / (var_a + 10 * noise_fixed)
    texture = texture if weight is None else weight * texture
    return 1 - (texture * squared).sum() / texture.sum().clamp(min=1e-12)
