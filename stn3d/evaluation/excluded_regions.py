"""What a transform does to the volume of an excluded region, such as a lesion."""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy import ndimage

from stn3d.evaluation.json_values import json_value
from stn3d.io import Image
from stn3d.length_unit import length_unit_mm
from stn3d.transforms import Transform
from stn3d.warp import jacobian_determinant

_SURROUNDING_UNITS = 10.0  # width of the shell around a region, in length units


@torch.no_grad()
def excluded_region_metrics(
    mask: Image, transform: Transform, surrounding_mm: float | None = None
) -> dict[str, Any]:
    """Volume of an excluded region before and after a transform, and of its surroundings.

    Volumes after the transform are sums of Jacobian determinants over the voxels.

    Args:
        mask: exclusion mask.
        transform: points of the mask's image to points of the other image.
        surrounding_mm: width of the surrounding shell, in mm. Default: 10 length units, which are
            10 mm for a head, see `stn3d.length_unit`.

    Returns:
        ``volume_ml`` in the mask's image, ``volume_after_ml`` in the other image,
        ``volume_change_pct``, and ``surrounding_volume_change_pct`` of the shell (None where the
        shell is empty).
    """
    grid, region = mask.grid, mask.values[0, 0] > 0
    if surrounding_mm is None:
        surrounding_mm = _SURROUNDING_UNITS * length_unit_mm(grid, grid)
    change = jacobian_determinant(transform, grid).cpu().double()
    distance_mm = ndimage.distance_transform_edt(~region.numpy(), sampling=grid.spacing_mm)
    shell = torch.from_numpy((distance_mm > 0) & (distance_mm <= surrounding_mm))
    voxel_ml = math.prod(grid.spacing_mm) / 1000
    before, after = (voxel_ml * float(x) for x in (region.sum(), change[region].sum()))
    return {
        "volume_ml": before,
        "volume_after_ml": after,
        "volume_change_pct": json_value(100 * (after / before - 1)) if before else None,
        "surrounding_volume_change_pct": json_value(100 * (float(change[shell].mean()) - 1)),
    }
