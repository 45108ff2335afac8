"""Rigid transforms as scripts/contrasts_rigid.py and scripts/ct_mr.py judge them, by their files.

A file is read by SimpleITK, as other ITK tools read it. Matrices are 4 x 4 and map fixed points to
moving points in RAS+ mm; a motion is six numbers: a rotation vector in radians and a shift in mm of
a centre, which is the middle of the points that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.float64]
LPS = np.array([-1.0, -1.0, 1.0])


def read_matrix(path: Path, points_mm: Floats, count: int = 500) -> Floats:
    """The matrix of a linear transform in a file, or of a field that holds one.

    Args:
        path: an ITK transform.
        points_mm: ``(N, 3)``; it is fitted to some of them.
        count: of those.

    Raises:
        ValueError: it is not linear: a fitted point is off by more than 0.05 mm.
    """
    transform = sitk.ReadTransform(str(path))
    points = points_mm[:: max(1, len(points_mm) // count)]
    there = [transform.TransformPoint(point) for point in (points * LPS).tolist()]
    moved = np.array(there) * LPS
    ones = np.ones((len(points), 1))
    solved, *_ = np.linalg.lstsq(np.hstack([points, ones]), moved, rcond=None)
    matrix = np.vstack([solved.T, [0.0, 0.0, 0.0, 1.0]])
    off = float(apart_mm(moved, carried(matrix, points)).max())
    if off > 0.05:
        raise ValueError(f"{path} holds no linear transform: a point is off by {off:.2f} mm.")
    return matrix


def carried(matrix: Floats, points_mm: Floats) -> Floats:
    """``(N, 3)`` points through a matrix."""
    return points_mm @ matrix[:3, :3].T + matrix[:3, 3]


def apart_mm(points: Floats, others: Floats) -> Floats:
    """Distances."""
    return np.linalg.norm(points - others, axis=-1)


def spread(distances: Floats) -> dict[str, float]:
    """Mean, 95th percentile and maximum."""
    figures = {"mean": distances.mean(), "p95": np.quantile(distances, 0.95)}
    figures["max"] = distances.max()
    return {key: round(float(value), 4) for key, value in figures.items()}


def turned(rotation_rad: Sequence[float] | Floats, shift_mm: Any, centre_mm: Floats) -> Floats:
    """The matrix that turns about a centre by a rotation vector, then shifts."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rotation_rad).as_matrix()
    matrix[:3, 3] = centre_mm - matrix[:3, :3] @ centre_mm + np.asarray(shift_mm)
    return matrix


def motion(matrix: Floats, centre_mm: Floats) -> Floats:
    """The six numbers of a rigid matrix; ``turned`` leads back."""
    shift = matrix[:3, :3] @ centre_mm + matrix[:3, 3] - centre_mm
    return np.concatenate([Rotation.from_matrix(matrix[:3, :3]).as_rotvec(), shift])


def without_common_motion(residuals: Sequence[Floats], points_mm: Floats) -> list[Floats | None]:
    """What is left of each residual when the mean motion of all others is taken out of it.

    Args:
        residuals: matrices ``truth^-1 found``, fixed points to fixed points.
        points_mm: ``(N, 3)`` where distances are taken.

    Returns:
        ``(N,)`` distances in mm for each residual; None where there is no other one.
    """
    centre = points_mm.mean(0)
    motions = np.array([motion(residual, centre) for residual in residuals])
    left: list[Floats | None] = []
    for place, residual in enumerate(residuals):
        others = np.delete(motions, place, axis=0)
        if not len(others):
            left.append(None)
            continue
        common = turned(others.mean(0)[:3], others.mean(0)[3:], centre)
        left.append(apart_mm(carried(residual, points_mm), carried(common, points_mm)))
    return left


def consensus(matrices: Sequence[Floats], points_mm: Floats) -> Floats:
    """``(N, 3)`` where most of them bring the points: medians of each coordinate."""
    return np.median([carried(matrix, points_mm) for matrix in matrices], axis=0)


def percentile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share))
