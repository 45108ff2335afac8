"""Error at landmarks."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.metrics.arrays import Array, as_points, length_statistics
from stn3d.transforms import Transform

_QUANTILES = (75, 90, 95)
_WORST = 0.3  # share of the landmarks in `worst30`


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
        ``mean``, ``median``, the percentiles ``p75``, ``p90`` and ``p95`` (interpolated linearly),
        ``max``, and ``worst30``, the mean of the largest 30 % (rounded up to whole landmarks), over
        the landmarks; NaN without landmarks.

    Raises:
        InputError: the two sets differ in number, or have another dimension than the transform.
    """
    errors = _errors(transform, fixed_points_mm, moving_points_mm)
    known = length_statistics(errors)
    lengths = np.sort(torch.linalg.vector_norm(errors.double(), dim=-1).cpu().numpy())
    if not len(lengths):
        names = ("mean", "median", *(f"p{q}" for q in _QUANTILES), "max", "worst30")
        return dict.fromkeys(names, math.nan)
    quantiles = np.percentile(lengths, _QUANTILES)
    worst = lengths[-math.ceil(round(_WORST * len(lengths), 9)) :]
    return {
        "mean": known["mean"],
        "median": float(np.median(lengths)),
        **{f"p{q}": float(value) for q, value in zip(_QUANTILES, quantiles, strict=True)},
        "max": known["max"],
        "worst30": float(worst.mean()),
    }


@torch.no_grad()
def landmark_robustness(
    transform: Transform, fixed_points_mm: Array, moving_points_mm: Array
) -> float:
    """Share of landmarks that a transform improves, from 0 to 1; higher is better.

    A landmark is improved if its error is smaller than its distance without registration,
    ``|transform(fixed) - moving| < |fixed - moving|``. Borovec et al. 2020,
    doi:10.1109/TMI.2020.2986331.

    Args:
        transform: fixed points to moving points.
        fixed_points_mm: ``(N, d)`` landmarks in the fixed image, world RAS+ mm.
        moving_points_mm: ``(N, d)`` the same landmarks in the moving image.

    Returns:
        The share; NaN without landmarks.

    Raises:
        InputError: the two sets differ in number, or have another dimension than the transform.
    """
    after = torch.linalg.vector_norm(_errors(transform, fixed_points_mm, moving_points_mm), dim=-1)
    fixed, moving = as_points(fixed_points_mm, transform), as_points(moving_points_mm, transform)
    improved = after < torch.linalg.vector_norm(fixed - moving, dim=-1)
    return float(improved.double().mean()) if len(improved) else math.nan


def _errors(transform: Transform, fixed_points_mm: Array, moving_points_mm: Array) -> Tensor:
    """``(N, d)`` float64 errors."""
    fixed, moving = as_points(fixed_points_mm, transform), as_points(moving_points_mm, transform)
    if len(fixed) != len(moving):
        raise InputError(
            f"{len(fixed)} fixed but {len(moving)} moving landmarks; give them in pairs."
        )
    return transform(fixed) - moving
