"""Error at landmarks."""

from __future__ import annotations

import torch

from stn3d.errors import InputError
from stn3d.metrics.arrays import Array, as_points, length_statistics
from stn3d.transforms import Transform


@torch.no_grad()
def tre_mm(
    transform: Transform, fixed_points_mm: Array, moving_points_mm: Array
) -> dict[str, float]:
    """Target registration error (TRE): ``|transform(fixed) - moving|`` at landmarks, in mm.

    Fitzpatrick et al. 1998, doi:10.1109/42.736021. It is a target registration error only if the
    landmarks were not used in the registration.

    Args:
        transform: fixed points to moving points.
        fixed_points_mm: ``(N, d)`` landmarks in the fixed image, world RAS+ mm.
        moving_points_mm: ``(N, d)`` the same landmarks in the moving image.

    Returns:
        ``mean``, ``p95`` and ``max`` over the landmarks; NaN without landmarks.

    Raises:
        InputError: the two sets differ in number, or have another dimension than the transform.
    """
    fixed, moving = as_points(fixed_points_mm, transform), as_points(moving_points_mm, transform)
    if len(fixed) != len(moving):
        raise InputError(
            f"{len(fixed)} fixed but {len(moving)} moving landmarks; give them in pairs."
        )
    return length_statistics(transform(fixed) - moving)
