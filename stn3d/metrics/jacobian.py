"""Folding and smoothness of a transform, from its Jacobian determinants."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.grid import Grid, apply_matrix
from stn3d.metrics.arrays import Array, as_mask
from stn3d.metrics.region import eroded
from stn3d.reductions import voxel_mean
from stn3d.transforms import Linear, Transform
from stn3d.warp import jacobian_determinant

Protocol = Literal["strict", "l2r"]


@torch.no_grad()
def jacobian_metrics(
    transform: Transform, grid: Grid, mask: Array | None = None, protocol: Protocol = "strict"
) -> dict[str, Any]:
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
        * ``abs_log_jacobian_p999``: 99.9th percentile of the absolute difference between
          ``log(clip(det, 1e-3, 1e3))`` and its median in the eroded mask, no unit. Unlike the
          extremes, it does not depend on a single voxel.
        * ``log_jacobian_extreme_at_mm``: centre of the voxel where this difference is largest,
          world RAS+ mm; None where it is 0 everywhere.

        All but ``folding_whole_field_pct`` are NaN or None where nothing is left of the mask.

    Raises:
        InputError: the mask does not fit the grid.
    """
    inner = as_mask(mask, grid)
    inner = eroded(inner) if protocol == "strict" else inner & eroded(np.ones_like(inner))
    everywhere = jacobian_determinant(transform, grid).cpu()
    if isinstance(transform, Linear):  # one determinant for all voxels
        inside = everywhere.flatten()[: int(inner.any())]
    else:
        inside = torch.from_numpy(everywhere.numpy()[inner])
    return {
        "folding_pct": _folding_pct(inside),
        "folding_whole_field_pct": _folding_pct(everywhere),
        "log_jacobian_sd": _log_sd(inside, protocol),
        "jacobian_min": float(inside.min()) if len(inside) else math.nan,
        "jacobian_max": float(inside.max()) if len(inside) else math.nan,
        **_deviation(inside, inner, grid),
    }


def _deviation(determinants: Tensor, inner: NDArray[np.bool_], grid: Grid) -> dict[str, Any]:
    """How far the logarithm is from its median, and where; see `jacobian_metrics`."""
    count, at_mm = len(determinants), None
    if not count:
        return {"abs_log_jacobian_p999": math.nan, "log_jacobian_extreme_at_mm": None}
    logs = determinants.to(torch.float32, copy=True).clamp_(1e-3, 1e3).log_()
    logs = logs.sub_(logs.median()).abs_().numpy()
    rank = math.ceil(0.999 * count) - 1
    if logs.max() > 0:
        flat = np.flatnonzero(inner)[logs.argmax()]
        index = torch.tensor(np.unravel_index(flat, grid.shape), dtype=torch.float64)
        at_mm = apply_matrix(grid.world_from_index, index).tolist()
    p999 = float(np.partition(logs, rank)[rank])
    return {"abs_log_jacobian_p999": p999, "log_jacobian_extreme_at_mm": at_mm}


def _folding_pct(determinants: Tensor) -> float:
    count = determinants.numel()
    return 100 * int((determinants <= 0).sum()) / count if count else math.nan


def _log_sd(determinants: Tensor, protocol: Protocol) -> float:
    """Standard deviation of the logarithm of ``(N,)`` determinants; NaN for N = 0."""
    shift, low, high = (0.0, 1e-3, 1e3) if protocol == "strict" else (3.0, 1e-9, 1e9)
    logs = determinants.to(torch.float64, copy=True).add_(shift).clamp_(low, high).log_()
    return math.sqrt(float(voxel_mean(logs.sub_(voxel_mean(logs)).square_())))
