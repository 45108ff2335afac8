"""Registration of corresponding landmarks, with leave-one-out errors and outliers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.choices import LandmarkKind, check_choice
from stn3d.io import Landmarks
from stn3d.landmarks.checks import (
    checked,
    checked_smoothing,
    checked_weights,
    rank_needed,
    require_no_mirror,
)
from stn3d.landmarks.result import LandmarkRegistration
from stn3d.metrics import Array
from stn3d.transforms import Transform
from stn3d.transforms.fit import (
    extents_mm,
    fit_linear,
    fit_spline,
    linear_leave_one_out,
    others_span,
    spline_leave_one_out,
)

# Outliers exceed the median error by this many median absolute deviations: 5 SD of a normal
# distribution. With n errors the limit is multiplied by 1 + 10 / n, since the deviation of few
# errors is uncertain.
_MAX_DEVIATIONS = 5 * 1.4826
_FEW_ERRORS = 10
_MIN_OUTLIER = 1e-3  # of the longest extent: smaller errors are normal placement errors
_MIN_ERRORS = 8  # fewer errors give no meaningful median and deviation


def register_landmarks(
    fixed_mm: Array,
    moving_mm: Array,
    kind: LandmarkKind = "rigid",
    weights: Array | None = None,
    *,
    smoothing: float = 0.0,
    names: Sequence[str] | None = None,
) -> LandmarkRegistration:
    """Find the transform that takes landmarks of the fixed image to those of the moving image.

    Rigid and similarity transforms are least-squares fits without reflection (Kabsch, Umeyama),
    affine transforms are least-squares fits, and ``tps`` is a thin-plate spline: interpolating
    (Bookstein) or, with smoothing, approximating (Rohr). Leave-one-out errors estimate the error at
    other points than the landmarks.

    Args:
        fixed_mm: ``(N, d)`` landmarks of the fixed image, world RAS+ mm; 2D or 3D.
        moving_mm: ``(N, d)`` the same landmarks in the moving image.
        kind: ``rigid`` or ``similarity`` (at least d landmarks, not collinear), ``affine`` or
            ``tps`` (at least d + 1, not collinear in 2D, not coplanar in 3D).
        weights: ``(N,)`` weights >= 0, proportional to 1 / variance of each landmark in mm^2. A
            landmark of weight 0 is not used, but its error is reported. A spline without smoothing
            passes through all other landmarks, whatever their weights.
        smoothing: regularisation of a spline, mm in 3D, mm^2 in 2D. 0 interpolates the landmarks;
            large values approach the affine fit, see `stn3d.transforms.ThinPlateSpline`.
        names: names of the landmarks in messages and metrics; default: row numbers from 1.

    Returns:
        The transform, its inverse, and errors of each landmark.

    Raises:
        InputError: the landmarks are too few, duplicated, collinear or coplanar, not finite or
            unpaired, an affine fit would be a reflection, or an option is invalid.

    Examples:
        Four corners of a rectangle, rotated by 90 degrees and translated:

        >>> import torch
        >>> fixed = torch.tensor([[0, 0], [40, 0], [40, 20], [0, 20]])
        >>> moving = torch.tensor([[5, 7], [5, 47], [-15, 47], [-15, 7]])
        >>> found = register_landmarks(fixed, moving)
        >>> found.transform(torch.tensor([[20.0, 10.0]])).round(decimals=3)
        tensor([[-5., 27.]])
        >>> found.residuals_mm.max() < 1e-6
        tensor(True)
    """
    check_choice("kind", kind, LandmarkKind)
    smoothing = checked_smoothing(smoothing, kind)
    pairs = checked(fixed_mm, moving_mm, names, kind)
    weight = checked_weights(weights, pairs, kind)
    if kind in ("affine", "tps"):
        require_no_mirror(pairs, weight, kind)
    transform, leave_one_out = _fit(pairs, weight, kind, smoothing)
    outlier_rows = _outliers(pairs, weight, kind, smoothing)
    outliers = tuple(pairs.names[row] for row in outlier_rows)
    return LandmarkRegistration(
        transform, transform.inverse(), pairs, leave_one_out, outliers, kind, smoothing
    )


def _fit(
    pairs: Landmarks, weight: Tensor, kind: LandmarkKind, smoothing: float
) -> tuple[Transform, Tensor]:
    """The transform, and each landmark mapped by the fit to all others ``(N, d)``."""
    fixed, moving = pairs.fixed_mm, pairs.moving_mm
    transform: Transform
    if kind == "tps":
        transform = spline = fit_spline(fixed, moving, smoothing, weight)
        leave_one_out = spline(fixed)
        leave_one_out[weight > 0] = spline_leave_one_out(spline)
    else:
        transform = fit_linear(kind, fixed, moving, weight)
        leave_one_out = linear_leave_one_out(kind, fixed, moving, weight)
    leave_one_out[~_determined(pairs, weight, rank_needed(kind, transform.ndim))] = torch.nan
    return transform, leave_one_out


def _determined(pairs: Landmarks, weight: Tensor, rank: int) -> Tensor:
    """``(N,)`` bool: whether all other landmarks determine the transform."""
    of_fixed = others_span(pairs.fixed_mm, weight, rank)
    return of_fixed & others_span(pairs.moving_mm, weight, rank)


def _outliers(pairs: Landmarks, weight: Tensor, kind: LandmarkKind, smoothing: float) -> list[int]:
    """Rows of landmarks with an unusually large leave-one-out error, largest first.

    Found one at a time (of more than 400 landmarks, half a percent at a time), each without those
    found before, because an outlier also increases the errors of its neighbours; at most a quarter
    of the landmarks. The limit is a modified z-score of
    5, or of 10 for 10 landmarks (Iglewicz and Hoaglin 1993, How to detect and handle outliers,
    use 3.5).
    """
    least_mm = _MIN_OUTLIER * float(extents_mm(pairs.moving_mm, weight > 0)[0])
    found: list[int] = []
    while len(found) < len(weight) // 4:
        remaining = weight.clone()
        remaining[found] = 0
        _, points_mm = _fit(pairs, remaining, kind, smoothing)
        errors_mm = torch.where(
            remaining > 0, (points_mm - pairs.moving_mm).norm(dim=-1), torch.nan
        )
        known_mm = errors_mm[errors_mm.isfinite()]
        if len(known_mm) < _MIN_ERRORS:
            break
        median = known_mm.median()
        deviations = _MAX_DEVIATIONS * (1 + _FEW_ERRORS / len(known_mm))
        limit_mm = float(median + deviations * (known_mm - median).abs().median())
        largest_mm, rows = errors_mm.nan_to_num().topk(max(1, len(weight) // 200))
        above = rows[largest_mm > max(limit_mm, least_mm)].tolist()
        if not above:
            break
        found += above
    return found[: len(weight) // 4]
