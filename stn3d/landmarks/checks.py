"""What landmarks must be like before a transform can be fitted to them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stn3d.choices import LandmarkKind
from stn3d.errors import InputError
from stn3d.io import Landmarks
from stn3d.metrics import Array
from stn3d.transforms.fit import fit_linear, spans

_DOUBLED = 1e-6  # of the largest distance: nearer points are one


def checked(
    fixed_mm: Array, moving_mm: Array, names: Sequence[str] | None, kind: LandmarkKind
) -> Landmarks:
    """Both sets as they are worked on, if they are fit for it; see `register_landmarks`.

    Raises:
        InputError: they are not; the message names the landmark.
    """
    pairs = paired(fixed_mm, moving_mm, names)
    needed = rank_needed(kind, pairs.fixed_mm.shape[1]) + 1
    if len(pairs.names) < needed:
        raise InputError(f"{_too_few(len(pairs.names))}; --kind {kind} needs {needed} or more.")
    for points, side in ((pairs.fixed_mm, "fixed"), (pairs.moving_mm, "moving")):
        _require_distinct(points, side, pairs.names)
    return pairs


def paired(fixed_mm: Array, moving_mm: Array, names: Sequence[str] | None = None) -> Landmarks:
    """Two sets of landmarks, however few, as float64 on the CPU.

    Raises:
        InputError: they are not points of one dimension, in pairs.
    """
    fixed, moving = _points(fixed_mm, "fixed"), _points(moving_mm, "moving")
    if fixed.shape[1] != moving.shape[1]:
        raise InputError(
            f"the fixed landmarks are {fixed.shape[1]}D and the moving ones {moving.shape[1]}D; "
            "give landmarks of one dimension."
        )
    if len(fixed) != len(moving):
        raise InputError(
            f"there are {len(fixed)} fixed and {len(moving)} moving landmarks; give them in pairs."
        )
    if names is None:
        names = [str(row) for row in range(1, len(fixed) + 1)]
    if len(names) != len(fixed):
        raise InputError(f"{len(names)} names do not fit {len(fixed)} landmarks; name each.")
    return Landmarks(tuple(names), fixed, moving)


def _points(points_mm: Array, side: str) -> Tensor:
    """``(N, d)`` float64 on the CPU, a copy."""
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
    """Of a tensor, an array or lists: a copy, float64 on the CPU."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values, float))
    return tensor.detach().cpu().to(torch.float64, copy=True)


def _too_few(count: int) -> str:
    return "there is 1 landmark" if count == 1 else f"there are {count} landmarks"


def _require_distinct(points: Tensor, side: str, names: Sequence[str]) -> None:
    from scipy.spatial import cKDTree  # slow to import

    tree = cKDTree(points.numpy())
    distance, nearest = tree.query(points.numpy(), k=2)
    row = int(distance[:, 1].argmin())
    size_mm = float((points.amax(0) - points.amin(0)).norm())
    if distance[row, 1] <= _DOUBLED * size_mm:
        other = int(nearest[row][nearest[row] != row][0])
        first, second = sorted((row, other))
        raise InputError(
            f"the {side} landmarks {names[first]} and {names[second]} are in one place; "
            "mend one, or remove it from both sets."
        )


def checked_weights(weights: Array | None, pairs: Landmarks, kind: LandmarkKind) -> Tensor:
    """``(N,)`` weights, float64, with which the landmarks determine the transform.

    Raises:
        InputError: they are not weights, or those above 0 lie on one line or plane.
    """
    count, ndim = pairs.fixed_mm.shape
    weight = torch.ones(count).double()
    if weights is not None:
        weight = _numbers(weights)
        if weight.shape != (count,) or not bool((weight.isfinite() & (weight >= 0)).all()):
            raise InputError(f"weights must be {count} numbers of 0 or more, one a landmark.")
    rank = rank_needed(kind, ndim)
    left = int((weight > 0).sum())
    if left <= rank:
        raise InputError(
            f"{_too_few(left)} with a weight above 0; --kind {kind} needs {rank + 1} or more."
        )
    for points, side in ((pairs.fixed_mm, "fixed"), (pairs.moving_mm, "moving")):
        if not bool(spans(points, weight, rank)):
            other = ", or take --kind rigid" if rank == ndim else ""
            where = "plane" if rank == 3 else "line"
            raise InputError(
                f"the {side} landmarks lie on one {where}, which does not determine a {kind} "
                f"transform; add some off that {where}{other}."
            )
    return weight


def checked_smoothing(smoothing: float, kind: LandmarkKind) -> float:
    """A spline's smoothing.

    Raises:
        InputError: it is negative or not finite, or the transform is no spline.
    """
    if not (math.isfinite(smoothing) and smoothing >= 0):
        raise InputError(f"the smoothing is {smoothing}; give a number of 0 or more.")
    if smoothing and kind != "tps":
        raise InputError(f"--smoothing is for --kind tps; leave it out with --kind {kind}.")
    return smoothing


def require_no_mirror(pairs: Landmarks, weight: Tensor, kind: LandmarkKind) -> None:
    """Refuse landmarks of which the affine fit mirrors: no anatomy is the mirror image of itself.

    Raises:
        InputError: their least-squares affine map has a determinant of 0 or less.
    """
    linear = fit_linear("affine", pairs.fixed_mm, pairs.moving_mm, weight).linear_part()
    if float(torch.linalg.det(linear)) <= 0:
        raise InputError(
            f"the {kind} transform of these landmarks would mirror the image; check that left and "
            "right are not swapped and that none is far off, or take --kind rigid."
        )


def rank_needed(kind: LandmarkKind, ndim: int) -> int:
    """How many dimensions landmarks must span; a turn of a line (3D: a plane) tells that of all."""
    return ndim - 1 if kind in ("rigid", "similarity") else ndim
