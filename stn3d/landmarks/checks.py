"""Checks of landmarks, weights and options before a transform is fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.arguments import points_tensor
from stn3d.choices import LandmarkKind
from stn3d.errors import InputError
from stn3d.io import Landmarks
from stn3d.metrics import Array
from stn3d.transforms.fit import fit_linear, spans

_MOST_CONTROL_POINTS = 3000
_SAME_PLACE = 1e-6  # of the largest extent: closer points are duplicates


def checked(
    fixed_mm: Array, moving_mm: Array, names: Sequence[str] | None, kind: LandmarkKind
) -> Landmarks:
    """Corresponding landmarks that can be registered; arguments as for `register_landmarks`.

    Raises:
        InputError: they are invalid, too few or duplicated; the message names the landmark.
    """
    pairs = paired(fixed_mm, moving_mm, names)
    needed = rank_needed(kind, pairs.fixed_mm.shape[1]) + 1
    if len(pairs.names) < needed:
        raise InputError(f"{_there_are(len(pairs.names))}; --kind {kind} needs {needed} or more.")
    if kind == "tps" and len(pairs.names) > _MOST_CONTROL_POINTS:
        step = math.ceil(len(pairs.names) / _MOST_CONTROL_POINTS)
        raise InputError(
            f"{_there_are(len(pairs.names))}; a spline takes {_MOST_CONTROL_POINTS} at most, since "
            f"its time grows with their cube; keep fewer, such as one row in {step} of both files, "
            "or use --kind affine."
        )
    for points, side in ((pairs.fixed_mm, "fixed"), (pairs.moving_mm, "moving")):
        _require_distinct(points, side, pairs.names)
    return pairs


def paired(fixed_mm: Array, moving_mm: Array, names: Sequence[str] | None = None) -> Landmarks:
    """Corresponding landmarks as float64 on the CPU, of any number.

    Raises:
        InputError: they differ in number or dimension, or are not finite points.
    """
    fixed, moving = _points(fixed_mm, "fixed"), _points(moving_mm, "moving")
    if fixed.shape[1] != moving.shape[1]:
        raise InputError(
            f"the fixed landmarks are {fixed.shape[1]}D and the moving ones {moving.shape[1]}D; "
            "both need the same dimension."
        )
    if len(fixed) != len(moving):
        raise InputError(
            f"there are {len(fixed)} fixed and {len(moving)} moving landmarks; both need the same "
            "number, in the same order."
        )
    if names is None:
        names = [str(row) for row in range(1, len(fixed) + 1)]
    if len(names) != len(fixed):
        raise InputError(
            f"there are {len(names)} names for {len(fixed)} landmarks; give one name each."
        )
    return Landmarks(tuple(names), fixed, moving)


def _points(points_mm: Array, side: str) -> Tensor:
    """Copy as ``(N, d)`` float64 on the CPU, checked."""
    points = _numbers(points_mm)
    if points.ndim != 2 or points.shape[1] not in (2, 3):
        raise InputError(
            f"the {side} landmarks have the shape {tuple(points.shape)}; give (N, 2) or (N, 3)."
        )
    bad = (~points.isfinite().all(dim=1)).nonzero()
    if len(bad):
        raise InputError(
            f"the {side} landmark in row {int(bad[0]) + 1} has NaN or Inf; give numbers in mm."
        )
    return points


def _numbers(values: Array) -> Tensor:
    """Copy of a tensor, an array or lists as float64 on the CPU."""
    return points_tensor(values).detach().cpu().to(torch.float64, copy=True)


def _there_are(count: int) -> str:
    return "there is 1 landmark" if count == 1 else f"there are {count} landmarks"


def _require_distinct(points: Tensor, side: str, names: Sequence[str]) -> None:
    from scipy.spatial import cKDTree  # slow to import

    tree = cKDTree(points.numpy())
    distance, nearest = tree.query(points.numpy(), k=2)
    row = int(distance[:, 1].argmin())
    size_mm = float((points.amax(0) - points.amin(0)).norm())
    if distance[row, 1] <= _SAME_PLACE * size_mm:
        other = int(nearest[row][nearest[row] != row][0])
        first, second = sorted((row, other))
        raise InputError(
            f"the {side} landmarks {names[first]} and {names[second]} have the same position; "
            "correct one, or remove it from both sets."
        )


def checked_weights(weights: Array | None, pairs: Landmarks, kind: LandmarkKind) -> Tensor:
    """Weights ``(N,)``, float64, that leave enough landmarks to determine the transform.

    Raises:
        InputError: a weight is negative or not finite, or the landmarks with a positive weight are
            too few, collinear or coplanar.
    """
    count, ndim = pairs.fixed_mm.shape
    weight = torch.ones(count).double()
    if weights is not None:
        weight = _numbers(weights)
        if weight.shape != (count,) or not bool((weight.isfinite() & (weight >= 0)).all()):
            raise InputError(f"weights must be {count} numbers >= 0, one per landmark.")
    rank = rank_needed(kind, ndim)
    used = int((weight > 0).sum())
    if used <= rank:
        raise InputError(
            f"{_there_are(used)} with a weight above 0; --kind {kind} needs {rank + 1} or more."
        )
    for points, side in ((pairs.fixed_mm, "fixed"), (pairs.moving_mm, "moving")):
        if not bool(spans(points, weight, rank)):
            other = ", or use --kind rigid" if rank == ndim else ""
            where = "plane" if rank == 3 else "line"
            raise InputError(
                f"the {side} landmarks lie on one {where}, which does not determine a {kind} "
                f"transform; add landmarks outside that {where}{other}."
            )
    return weight


def checked_smoothing(smoothing: float, kind: LandmarkKind) -> float:
    """The smoothing of a spline, checked.

    Raises:
        InputError: it is negative or not finite, or given for a kind other than ``tps``.
    """
    if not (math.isfinite(smoothing) and smoothing >= 0):
        raise InputError(f"the smoothing is {smoothing}; give a number >= 0.")
    if smoothing and kind != "tps":
        raise InputError(f"--smoothing applies to --kind tps only; omit it for --kind {kind}.")
    return smoothing


def require_no_mirror(pairs: Landmarks, weight: Tensor, kind: LandmarkKind) -> None:
    """Reject landmarks whose affine fit is a reflection.

    Raises:
        InputError: the determinant of the least-squares affine transform is not positive.
    """
    linear = fit_linear("affine", pairs.fixed_mm, pairs.moving_mm, weight).linear_part()
    if float(torch.linalg.det(linear)) <= 0:
        raise InputError(
            f"the {kind} transform of these landmarks would mirror the image; check that left and "
            "right are not swapped and that no landmark is misplaced, or use --kind rigid."
        )


def rank_needed(kind: LandmarkKind, ndim: int) -> int:
    """Number of dimensions that landmarks must span to determine a transform.

    The rotation of a line (in 3D of a plane) determines that of the whole space.
    """
    return ndim - 1 if kind in ("rigid", "similarity") else ndim
