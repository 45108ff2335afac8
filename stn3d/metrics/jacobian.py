"""Folding and smoothness of a transform, from its Jacobian determinants."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch

from stn3d.grid import Grid
from stn3d.metrics.arrays import Array, as_mask
from stn3d.metrics.region import eroded
from stn3d.transforms import Linear, Transform
from stn3d.warp import jacobian_determinant

Protocol = Literal["strict", "l2r"]


@torch.no_grad()
def jacobian_metrics(
    transform: Transform, grid: Grid, mask: Array | None = None, protocol: Protocol = "strict"
) -> dict[str, float]:
    """Folding, SD of the log-Jacobian and extremes of the Jacobian determinant.

    Determinants come from central differences over one voxel of the fixed grid, in world mm
    (one-sided at the faces): 1 keeps a volume, 2 doubles it from fixed to moving, 0 or less is
    folding. The SD of the log-Jacobian follows Leow et al. 2007, doi:10.1109/TMI.2007.892646.

    * ``strict``: the mask eroded by two voxels, and ``log(clip(det, 1e-3, 1e3))``.
    * ``l2r``, as in the Learn2Reg challenge (Hering et al. 2023, doi:10.1109/TMI.2022.3213983): the
      mask without the two outer voxels of the grid, and ``log(clip(det + 3, 1e-9, 1e9))``.

    Axes of fewer than five voxels are not eroded.

    Args:
        transform: fixed points to moving points.
        grid: the fixed grid.
        mask: voxels above 0 are used. Default: all.
        protocol: ``strict`` or ``l2r``.

    Returns:
        * ``folding_pct``: voxels of the eroded mask with a determinant of 0 or less, in %.
        * ``folding_whole_field_pct``: the same over all voxels of the grid, not eroded.
        * ``log_jacobian_sd``: standard deviation of the logarithm in the eroded mask, no unit.
        * ``jacobian_min``, ``jacobian_max``: extremes in the eroded mask, no unit.

        All but ``folding_whole_field_pct`` are NaN where nothing is left of the mask.

    Raises:
        InputError: the mask does not fit the grid.
    """
    inner = as_mask(mask, grid)
    inner = eroded(inner) if protocol == "strict" else inner & eroded(np.ones_like(inner))
    everywhere = jacobian_determinant(transform, grid).cpu()
    folded_pct = 100 * int((everywhere <= 0).sum()) / everywhere.numel()
    return _inner_metrics(
        # Linear transforms have one determinant.
        everywhere.flatten()[: int(inner.any())]
        if isinstance(transform, Linear)
        else torch.from_numpy(everywhere.numpy()[inner]),
        protocol,
    ) | {"folding_whole_field_pct": folded_pct}


def _inner_metrics(det: torch.Tensor, protocol: Protocol) -> dict[str, float]:
    """The metrics of the determinants in the eroded mask, ``(N,)``."""
    if not len(det):
        keys = ("folding_pct", "log_jacobian_sd", "jacobian_min", "jacobian_max")
        return dict.fromkeys(keys, math.nan)
    shift, low, high = (0.0, 1e-3, 1e3) if protocol == "strict" else (3.0, 1e-9, 1e9)
    logs = det.double().add_(shift).clamp_(low, high).log_()
    return {
        "folding_pct": 100 * int((det <= 0).sum()) / len(det),
        "log_jacobian_sd": float(logs.std(correction=0)),
        "jacobian_min": float(det.min()),
        "jacobian_max": float(det.max()),
    }
