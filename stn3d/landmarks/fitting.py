"""From two sets of landmarks to a transform, and to what it is worth."""

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
from stn3d.landmarks.outcome import LandmarkRegistration
from stn3d.metrics import Array
from stn3d.transforms import Transform
from stn3d.transforms.fit import (
    extents_mm,
    fit_linear,
    fit_spline,
    left_out_weights,
    linear_left_out,
    spans,
    spline_left_out,
)

_FAR = 5 * 1.4826  # of the median absolute deviation: five standard deviations of normal numbers
_FEW = 10  # of so few the deviation itself is so uncertain that twice as much is far
_SURE = 1e-3  # of the longest extent: nobody places landmarks better
_ENOUGH = 8  # errors of which a median and its deviation say something


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

    Rigid and similarity are Kabsch's and Umeyama's fits and never mirror; affine is least squares;
    ``tps`` is Bookstein's thin-plate spline, or Rohr's approximating one where it is smoothed. What
    a transform does elsewhere than at its own landmarks is told by the errors of leaving each out.

    Args:
        fixed_mm: ``(N, d)`` landmarks of the fixed image, world RAS+ mm; 2D or 3D.
        moving_mm: ``(N, d)`` the same landmarks in the moving image.
        kind: ``rigid`` or ``similarity`` (d landmarks or more, not on one line), ``affine`` or
            ``tps`` (d + 1 or more, not on one line in 2D, one plane in 3D).
        weights: ``(N,)``, 0 or more: how much each landmark counts, as 1 / (its variance in mm^2);
            a landmark of weight 0 is measured only. A spline that is not smoothed passes through
            all others, whatever their weights.
        smoothing: of a spline, mm in 3D, mm^2 in 2D: 0 passes through every landmark, much comes
            near the affine fit; see `stn3d.transforms.ThinPlateSpline`.
        names: of the landmarks, for messages and figures; their rows, from 1, by default.

    Returns:
        The transform, its inverse, and errors of each landmark.

    Raises:
        InputError: the landmarks are too few, doubled, on one line or plane, not finite or not in
            pairs, an affine fit would mirror, or an option is of no use.
    """
    check_choice("kind", kind, LandmarkKind)
    smoothing = checked_smoothing(smoothing, kind)
    pairs = checked(fixed_mm, moving_mm, names, kind)
    weight = checked_weights(weights, pairs, kind)
    if kind in ("affine", "tps"):
        require_no_mirror(pairs, weight, kind)
    transform, left_out = _fit(pairs, weight, kind, smoothing)
    rows = _suspects(pairs, weight, kind, smoothing)
    suspects = tuple(pairs.names[row] for row in rows)
    return LandmarkRegistration(
        transform, transform.inverse(), pairs, left_out, suspects, kind, smoothing
    )


def _fit(
    pairs: Landmarks, weight: Tensor, kind: LandmarkKind, smoothing: float
) -> tuple[Transform, Tensor]:
    """The transform, and where each landmark goes by the fit to all others ``(N, d)`` or NaN."""
    fixed, moving = pairs.fixed_mm, pairs.moving_mm
    transform: Transform
    if kind == "tps":
        transform = spline = fit_spline(fixed, moving, smoothing, weight)
        left_out = spline(fixed)
        left_out[weight > 0] = spline_left_out(spline)
    else:
        transform = fit_linear(kind, fixed, moving, weight)
        left_out = linear_left_out(kind, fixed, moving, weight)
    left_out[~_determined(pairs, weight, rank_needed(kind, transform.ndim))] = torch.nan
    return transform, left_out


def _determined(pairs: Landmarks, weight: Tensor, rank: int) -> Tensor:
    """``(N,)`` bool: whether the others determine the transform without a landmark."""
    found = [
        spans(pairs.fixed_mm, others, rank) & spans(pairs.moving_mm, others, rank)
        for _, others in left_out_weights(weight)
    ]
    return torch.cat(found)


def _suspects(pairs: Landmarks, weight: Tensor, kind: LandmarkKind, smoothing: float) -> list[int]:
    """Rows whose error when left out is far beyond the others', the worst first.

    One after the other, each time without those found, since a wrong landmark drags its neighbours
    along; a quarter of all at most. Far is a modified z-score above 5, twice that for 10 landmarks
    (Iglewicz and Hoaglin 1993, How to detect and handle outliers, take 3.5).
    """
    least_mm = _SURE * float(extents_mm(pairs.moving_mm, weight > 0)[0])
    found: list[int] = []
    while len(found) < len(weight) // 4:
        left = weight.clone()
        left[found] = 0
        _, points_mm = _fit(pairs, left, kind, smoothing)
        errors_mm = torch.where(left > 0, (points_mm - pairs.moving_mm).norm(dim=-1), torch.nan)
        known_mm = errors_mm[errors_mm.isfinite()]
        if len(known_mm) < _ENOUGH:
            break
        median = known_mm.median()
        far = _FAR * (1 + _FEW / len(known_mm))
        limit_mm = float(median + far * (known_mm - median).abs().median())
        if float(known_mm.max()) <= max(limit_mm, least_mm):
            break
        found.append(int(errors_mm.nan_to_num().argmax()))
    return found
