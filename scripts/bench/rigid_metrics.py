"""Rigid transforms of any tool, read from their files, and distances between them.

Files are read by SimpleITK, as other ITK tools read them. Matrices are 4 x 4 and map fixed points
to moving points in RAS+ mm. A motion is six numbers: a rotation vector in radians and the
displacement in mm of a centre, the mean of the points that distances are measured at.
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
    """The matrix of a linear transform in a file, or of a displacement field that is linear.

    Args:
        path: an ITK transform.
        points_mm: ``(N, 3)``; the matrix is fitted to some of them.
        count: number of these.

    Raises:
        ValueError: it is not linear: a point deviates from the fit by more than 0.05 mm.
    """
    transform = sitk.ReadTransform(str(path))
    points = points_mm[:: max(1, len(points_mm) // count)]
    there = [transform.TransformPoint(point) for point in (points * LPS).tolist()]
    moved = np.array(there) * LPS
    ones = np.ones((len(points), 1))
    solved, *_ = np.linalg.lstsq(np.hstack([points, ones]), moved, rcond=None)
    matrix = np.vstack([solved.T, [0.0, 0.0, 0.0, 1.0]])
    off = float(distances_mm(moved, transformed(matrix, points)).max())
    if off > 0.05:
        raise ValueError(
            f"{path} holds no linear transform: a point deviates from the fit by {off:.2f} mm."
        )
    return matrix


def transformed(matrix: Floats, points_mm: Floats) -> Floats:
    """``(N, 3)`` points mapped by a matrix."""
    return points_mm @ matrix[:3, :3].T + matrix[:3, 3]


def distances_mm(points: Floats, others: Floats) -> Floats:
    """``(N,)`` distances between corresponding points."""
    return np.linalg.norm(points - others, axis=-1)


def mean_p95_max(distances: Floats) -> dict[str, float]:
    """Mean, 95th percentile and maximum."""
    found = {"mean": distances.mean(), "p95": np.quantile(distances, 0.95), "max": distances.max()}
    return {key: round(float(value), 4) for key, value in found.items()}


def rigid_matrix(
    rotation_rad: Sequence[float] | Floats, translation_mm: Any, centre_mm: Floats
) -> Floats:
    """The matrix that rotates about a centre by a rotation vector, then translates."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rotation_rad).as_matrix()
    matrix[:3, 3] = centre_mm - matrix[:3, :3] @ centre_mm + np.asarray(translation_mm)
    return matrix


def motion(matrix: Floats, centre_mm: Floats) -> Floats:
    """The six numbers of a rigid matrix; `rigid_matrix` inverts this."""
    shift = matrix[:3, :3] @ centre_mm + matrix[:3, 3] - centre_mm
    return np.concatenate([Rotation.from_matrix(matrix[:3, :3]).as_rotvec(), shift])


def without_common_motion(residuals: Sequence[Floats], points_mm: Floats) -> list[Floats | None]:
    """Distances that remain of each residual after the mean motion of all others is removed.

    Args:
        residuals: matrices ``truth^-1 found``, fixed points to fixed points.
        points_mm: ``(N, 3)`` where distances are measured.

    Returns:
        ``(N,)`` distances in mm for each residual; None if there is no other one.
    """
    centre = points_mm.mean(0)
    motions = np.array([motion(residual, centre) for residual in residuals])
    left: list[Floats | None] = []
    for place, residual in enumerate(residuals):
        others = np.delete(motions, place, axis=0)
        if not len(others):
            left.append(None)
            continue
        common = rigid_matrix(others.mean(0)[:3], others.mean(0)[3:], centre)
        left.append(distances_mm(transformed(residual, points_mm), transformed(common, points_mm)))
    return left


def consensus(matrices: Sequence[Floats], points_mm: Floats) -> Floats:
    """``(N, 3)`` mapped points that most matrices agree on: medians of each coordinate."""
    return np.median([transformed(matrix, points_mm) for matrix in matrices], axis=0)
