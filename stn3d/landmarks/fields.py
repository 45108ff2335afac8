"""Splines and their inverses as displacement fields, with the discretisation error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from stn3d.grid import Grid, apply_matrix
from stn3d.memory.limit import require_memory
from stn3d.metrics import inverse_consistency_error_mm, jacobian_metrics, tre_mm
from stn3d.sampler import inside
from stn3d.transforms import Inverse, ThinPlateSpline, Transform, control_grid, rounded, sampled
from stn3d.transforms.fit import fit_linear

_TEST_POINTS = 33  # along each axis of the image, from face to face
_MAX_GROWTH = 8  # largest inverse field relative to the image, in voxels
_TOLERANCE_VOX = 1e-3  # of the inverse field
_FIELD_ARRAYS = 4  # of the size of a field while it is made
_SUGGESTION = "check that landmarks and image are in the same unit, or give a coarser --like image"
_MAX_RESIDUAL_VOX = 0.1  # largest residual of an inverse that is accepted


@dataclass(frozen=True, eq=False)
class SplineFields:
    """A spline as a displacement field followed by an affine transform.

    Args:
        transform: fixed points to moving points.
        inverse: moving points to fixed points.
        metrics: ``discretisation_error_mm`` (distance between field and spline, also between
            voxels) and ``inverse_consistency_error_mm`` (``transform`` followed by ``inverse``),
            statistics over the domain of the image, among them mean, p95 and max.
    """

    transform: Transform
    inverse: Transform
    metrics: dict[str, Any]


@torch.no_grad()
def spline_fields(spline: ThinPlateSpline, grid: Grid) -> SplineFields | None:
    """Sample a spline and its inverse as displacement fields.

    The affine fit is split off; the fields hold the remaining deformation. The inverse covers the
    mapped image. The forward field covers all points that the inverse maps to, and at least the
    first voxel centre beyond each face of the image.

    Args:
        spline: fixed points to moving points.
        grid: grid of the fixed image.

    Returns:
        The fields; None if the spline folds within the image or stretches it so far that it has no
        usable inverse.
    """
    voxel_mm = min(grid.spacing_mm)
    affine = fit_linear("affine", spline.points_mm, spline.targets_mm)
    deformation = spline.then(affine.inverse())
    tested_mm = _lattice_mm(grid)
    inverse_grid = grid.covering(deformation(tested_mm))
    if inverse_grid.num_voxels > _MAX_GROWTH * max(grid.num_voxels, _TEST_POINTS**grid.ndim):
        return None
    origins_mm = Inverse(deformation)(_lattice_mm(inverse_grid))
    origins_mm = origins_mm[origins_mm.isfinite().all(dim=-1)]
    field_grid = grid.covering(torch.cat([tested_mm, origins_mm]))
    floats = _FIELD_ARRAYS * grid.ndim * (field_grid.num_voxels + inverse_grid.num_voxels)
    require_memory(floats, "the spline as a displacement field", _SUGGESTION)
    field = rounded(sampled(deformation, field_grid))
    inverse_field, residual_mm = field.invert(inverse_grid, _TOLERANCE_VOX * voxel_mm)
    unsolved = residual_mm > _MAX_RESIDUAL_VOX * voxel_mm
    if unsolved or jacobian_metrics(field, grid)["folding_pct"] > 0:
        return None
    transform, inverse = field.then(affine), affine.inverse().then(rounded(inverse_field))
    index = apply_matrix(grid.index_from_world, spline.points_mm)
    # A spline in 3D bends most sharply at its landmarks: include those inside the image.
    tested_mm = torch.cat([tested_mm, spline.points_mm[inside(index, grid.shape)]])
    metrics = {
        "discretisation_error_mm": tre_mm(transform, tested_mm, spline(tested_mm)),
        "inverse_consistency_error_mm": inverse_consistency_error_mm(transform, inverse, tested_mm),
    }
    return SplineFields(transform, inverse, metrics)


def _lattice_mm(grid: Grid) -> torch.Tensor:
    """``(N, d)`` points of a regular lattice over a grid's domain, outer points on its faces."""
    return control_grid(grid, _TEST_POINTS).points_mm().reshape(-1, grid.ndim)
