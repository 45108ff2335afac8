"""Folding and smoothness of a transform, from its Jacobian determinants."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.choices import EvaluationProtocol
from stn3d.grid import Grid, apply_matrix
from stn3d.metrics.arrays import Array, as_mask
from stn3d.metrics.region import eroded
from stn3d.reductions import voxel_mean
from stn3d.transforms import Linear, Transform
from stn3d.warp import jacobian_determinant, non_diffeomorphic_volume

_LOG_SD = {"strict": "log_jacobian_sd", "l2r": "sdlogj"}


@torch.no_grad()
def jacobian_metrics(
    transform: Transform,
    grid: Grid,
    mask: Array | None = None,
    protocol: EvaluationProtocol = "strict",
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
        ``folding_pct``, voxels of the eroded mask with a determinant of 0 or less, in %;
        ``folding_whole_field_pct``, the same over all voxels of the grid, not eroded;
        ``log_jacobian_sd`` (with ``l2r`` ``sdlogj``), standard deviation of the logarithm in the
        eroded mask; ``jacobian_min`` and ``jacobian_max``, extremes in the eroded mask. All but
        ``folding_whole_field_pct`` are NaN where nothing is left of the mask.

    Raises:
        InputError: the mask does not fit the grid.
    """
    return Determinants.of(transform, grid, mask, protocol).metrics(protocol)


@torch.no_grad()
def ndv_metrics(
    transform: Transform,
    grid: Grid,
    mask: Array | None = None,
    protocol: EvaluationProtocol = "strict",
) -> dict[str, float]:
    """Non-diffeomorphic volume (NDV; in 2D area, NDA): how much a transform folds; 0 is best.

    The voxel centres of the fixed grid, moved by the transform, are the corners of tetrahedra. NDV
    is the volume of those that are inverted, of both subdivisions of a cube into five tetrahedra,
    halved: ``sum over voxels and over ten determinants of max(0, -det) / 12`` (in 2D triangles:
    four determinants, ``/ 4``). It is 0 for a digital diffeomorphism.
    Central differences, as in ``folding_pct``, miss folding between voxels. Liu et al. 2024,
    doi:10.1007/s11263-024-02047-1.

    Args:
        transform: fixed points to moving points.
        grid: the fixed grid.
        mask: voxels above 0 are used. Default: all.
        protocol: ``strict``: the mask eroded by two voxels; ``l2r``: the mask without the outermost
            voxels of the grid, as in the Learn2Reg challenge.

    Returns:
        * ``ndv_pct``: volume in the mask in % of the volume of its voxels; may exceed 100.
        * ``ndv_ml``: the volume in ml; in 2D that of a pixel 1 mm thick.

        NaN where nothing is left of the mask.

    Raises:
        InputError: the mask does not fit the grid.
    """
    inner = as_mask(mask, grid)
    inner = eroded(inner) if protocol == "strict" else inner & eroded(np.ones_like(inner), 1)
    count = int(inner.sum())
    if not count:
        return {"ndv_pct": math.nan, "ndv_ml": math.nan}
    folded = non_diffeomorphic_volume(transform, grid).cpu().numpy()
    volume = float(folded[inner].sum(dtype=np.float64))
    voxel_ml = math.prod(grid.spacing_mm) / 1000
    return {"ndv_pct": 100 * volume / count, "ndv_ml": volume * voxel_ml}


@dataclass(frozen=True, eq=False)
class Determinants:
    """Jacobian determinants of a transform on a grid.

    Args:
        grid: the fixed grid.
        everywhere: ``grid.shape`` determinants.
        inner: ``grid.shape`` bool, the eroded mask.
        inside: ``(N,)`` determinants in the eroded mask; a single one of a linear transform.
    """

    grid: Grid
    everywhere: Tensor
    inner: NDArray[np.bool_]
    inside: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        transform: Transform,
        grid: Grid,
        mask: Array | None = None,
        protocol: EvaluationProtocol = "strict",
    ) -> Determinants:
        """The determinants, see `jacobian_metrics` for the arguments."""
        inner = as_mask(mask, grid)
        inner = eroded(inner) if protocol == "strict" else inner & eroded(np.ones_like(inner))
        everywhere = jacobian_determinant(transform, grid).cpu()
        if isinstance(transform, Linear):  # one determinant for all voxels
            inside = everywhere.flatten()[: int(inner.any())]
        else:
            inside = torch.from_numpy(everywhere.numpy()[inner])
        return cls(grid, everywhere, inner, inside)

    def metrics(self, protocol: EvaluationProtocol = "strict") -> dict[str, float]:
        """See `jacobian_metrics`."""
        inside = self.inside
        return {
            "folding_pct": _folding_pct(inside),
            "folding_whole_field_pct": _folding_pct(self.everywhere),
            _LOG_SD[protocol]: _log_sd(inside, protocol),
            "jacobian_min": float(inside.min()) if len(inside) else math.nan,
            "jacobian_max": float(inside.max()) if len(inside) else math.nan,
        }

    def deviation(self) -> dict[str, Any]:
        """How far ``log(clip(det, 1e-3, 1e3))`` is from its median in the eroded mask.

        Returns:
            ``abs_log_jacobian_p999``, the 99.9th percentile of the absolute difference, which does
            not depend on single voxels as the extremes do, NaN in an empty mask; and
            ``log_jacobian_extreme_at_mm``, the centre of the voxel where the difference is largest,
            in world RAS+ mm, None where it is 0 everywhere.
        """
        count, at_mm = len(self.inside), None
        if not count:
            return {"abs_log_jacobian_p999": math.nan, "log_jacobian_extreme_at_mm": None}
        logs = self.inside.to(torch.float32, copy=True).clamp_(1e-3, 1e3).log_()
        away = logs.sub_(logs.median()).abs_().numpy()
        if away.max() > 0:
            flat = np.flatnonzero(self.inner)[away.argmax()]
            index = torch.tensor(np.unravel_index(flat, self.grid.shape), dtype=torch.float64)
            at_mm = apply_matrix(self.grid.world_from_index, index).tolist()
        rank = math.ceil(0.999 * count) - 1
        p999 = float(np.partition(away, rank)[rank])
        return {"abs_log_jacobian_p999": p999, "log_jacobian_extreme_at_mm": at_mm}


def _folding_pct(determinants: Tensor) -> float:
    count = determinants.numel()
    return 100 * int((determinants <= 0).sum()) / count if count else math.nan


def _log_sd(determinants: Tensor, protocol: EvaluationProtocol) -> float:
    """Standard deviation of the logarithm of ``(N,)`` determinants; NaN for N = 0."""
    shift, low, high = (0.0, 1e-3, 1e3) if protocol == "strict" else (3.0, 1e-9, 1e9)
    logs = determinants.to(torch.float64, copy=True).add_(shift).clamp_(low, high).log_()
    return math.sqrt(float(voxel_mean(logs.sub_(voxel_mean(logs)).square_())))
