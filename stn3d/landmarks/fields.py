"""A spline and its inverse as displacement fields, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from stn3d.grid import Grid, apply_matrix
from stn3d.metrics import inverse_consistency_error_mm, jacobian_metrics, tre_mm
from stn3d.sampler import inside
from stn3d.transforms import Inverse, ThinPlateSpline, Transform, control_grid, rounded, sampled
from stn3d.transforms.fit import fit_linear

_PROBES = 33  # along each axis of the image, from face to face
_FAR_APART = 8  # times as many voxels as the image has
_UNSOLVED_VOX = 0.1  # where an inverse is off by more, there is none


@dataclass(frozen=True, eq=False)
class Fields:
    """A spline as a displacement field and then an affine map.

    Args:
        transform: fixed points to moving points.
        inverse: moving points to fixed points.
        figures: ``sampling_mm`` (the field beside the spline, between voxels too) and
            ``inverse_mm`` (there and back by both fields), each with mean, p95 and max over the
            image's domain.
    """

    transform: Transform
    inverse: Transform
    figures: dict[str, Any]


@torch.no_grad()
def fields_of(spline: ThinPlateSpline, grid: Grid) -> Fields | None:
    """Sample a spline on an image's grid, and invert it wherever that image goes.

    The affine fit is split off, so that the fields hold only what bends. The first reaches as far
    as the second needs it, at least to the first voxel centre beyond each face of the image.

    Args:
        spline: fixed points to moving points.
        grid: the fixed image's.

    Returns:
        None where the spline folds within the image, or throws it far apart, so that there is no
        inverse worth the name.
    """
    affine = fit_linear("affine", spline.points_mm, spline.targets_mm)
    bend = spline.then(affine.inverse())
    probes_mm = _lattice_mm(grid)
    there = grid.covering(bend(probes_mm))
    if there.num_voxels > _FAR_APART * max(grid.num_voxels, _PROBES**grid.ndim):
        return None
    back_mm = Inverse(bend)(_lattice_mm(there))
    back_mm = back_mm[back_mm.isfinite().all(dim=-1)]
    field = rounded(sampled(bend, grid.covering(torch.cat([probes_mm, back_mm]))))
    back, unsolved_mm = field.invert(there, tolerance_mm=1e-3)
    unsolved = unsolved_mm > _UNSOLVED_VOX * min(grid.spacing_mm)
    if unsolved or jacobian_metrics(field, grid)["folding_pct"] > 0:
        return None
    transform, inverse = field.then(affine), affine.inverse().then(rounded(back))
    index = apply_matrix(grid.index_from_world, spline.points_mm)
    probes_mm = torch.cat([probes_mm, spline.points_mm[inside(index, grid.shape)]])  # sharp bends
    figures = {
        "sampling_mm": tre_mm(transform, probes_mm, spline(probes_mm)),
        "inverse_mm": inverse_consistency_error_mm(transform, inverse, probes_mm),
    }
    return Fields(transform, inverse, figures)


def _lattice_mm(grid: Grid) -> torch.Tensor:
    """``(N, d)`` points all over a grid's domain, the outer ones on its faces."""
    return control_grid(grid, _PROBES).points_mm().reshape(-1, grid.ndim)
