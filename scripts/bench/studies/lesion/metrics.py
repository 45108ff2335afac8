"""The effect of a sphere on a registration, measured from the files of two runs by SimpleITK."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LPS = np.array([-1.0, -1.0, 1.0])
STEP_MM = 1.0  # spacing of the lattice on which volumes are integrated
NEAR_MM = 15.0


@dataclass(frozen=True)
class Ball:
    """A sphere in an image's world.

    Args:
        centre_mm: RAS+.
        radius_mm: radius.
    """

    centre_mm: tuple[float, float, float]
    radius_mm: float

    @property
    def volume_ml(self) -> float:
        return 4 / 3 * np.pi * self.radius_mm**3 / 1000

    def beyond_mm(self, points_mm: Floats) -> Floats:
        """``(...)`` distances of ``(..., 3)`` points from its surface; negative within."""
        return np.linalg.norm(points_mm - np.array(self.centre_mm), axis=-1) - self.radius_mm

    def distance_mm(self, shape: tuple[int, ...], affine: Floats) -> Floats:
        """`beyond_mm` of an image's voxels."""
        index = np.moveaxis(np.indices(shape), 0, -1)
        return self.beyond_mm(index @ affine[:3, :3].T + affine[:3, 3])


def sphere_metrics(run: Path, free: Path, fixed: Path, side: str, ball: Ball) -> dict[str, Any]:
    """Compare a run with a sphere with the run of the same pair without.

    Args:
        run: folder of ``transform.h5`` and ``inverse.h5``.
        free: the same without the sphere.
        fixed: the fixed image, without the sphere.
        side: the image with the sphere, ``fixed`` or ``moving``.
        ball: the sphere, in that image's world.

    Returns:
        ``volume``, the run's changes of volume as `volumes` gives them; ``volume_free``, those of
        the free run at the same place; and distances between both transforms from `distances`.
    """
    name = "transform.h5" if side == "fixed" else "inverse.h5"
    folders = {"volume": run, "volume_free": free}
    found: dict[str, Any] = {key: volumes(folder / name, ball) for key, folder in folders.items()}
    return found | distances(run, free, fixed, side, ball)


def volumes(path: Path, ball: Ball) -> dict[str, float]:
    """Volume of a sphere after a transform: the integral of the Jacobian determinant.

    Returns:
        ``before_ml`` and ``after_ml`` of the sphere; ``ratio`` of both, ``ratio_around``, the same
        in the shell from one radius to two, and ``ratio_affine`` of the linear parts alone.
    """
    transform = sitk.ReadTransform(str(path))
    reach = 2 * ball.radius_mm + 2 * STEP_MM
    steps = np.arange(-np.ceil(reach / STEP_MM), np.ceil(reach / STEP_MM) + 1) * STEP_MM
    size = [len(steps)] * 3
    corner = np.array(ball.centre_mm) * LPS + steps[0]
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, size, corner.tolist(), [STEP_MM] * 3
    )
    vectors = sitk.GetArrayFromImage(field)  # (z, y, x, 3)
    slopes = np.stack(np.gradient(vectors, STEP_MM, axis=(2, 1, 0)), -1) + np.eye(3)
    determinant = np.linalg.det(slopes)
    z, y, x = np.meshgrid(steps, steps, steps, indexing="ij")
    distance = np.sqrt(x**2 + y**2 + z**2)
    inside = determinant[distance <= ball.radius_mm].mean()
    shell = (distance > ball.radius_mm) & (distance <= 2 * ball.radius_mm)
    found = {"before_ml": ball.volume_ml, "after_ml": ball.volume_ml * inside, "ratio": inside}
    found |= {"ratio_around": determinant[shell].mean(), "ratio_affine": linear_ratio(transform)}
    return {key: round(float(value), 4) for key, value in found.items()}


def linear_ratio(transform: sitk.Transform) -> float:
    """The determinant of a transform's linear parts."""
    if isinstance(transform, sitk.CompositeTransform):
        parts = [transform.GetNthTransform(i) for i in range(transform.GetNumberOfTransforms())]
        return float(np.prod([linear_ratio(part.Downcast()) for part in parts]))
    if not transform.IsLinear():
        return 1.0
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(axis)) - origin for axis in np.eye(3).tolist()]
    return float(np.linalg.det(np.stack(columns, -1)))


def distances(run: Path, free: Path, fixed: Path, side: str, ball: Ball) -> dict[str, float]:
    """Mean distances of two runs' transforms over the fixed foreground, in mm.

    Returns:
        ``apart_mm`` outside the sphere (for a moving image: where the free run maps outside it),
        ``apart_near_mm`` of that within 15 mm of it, and ``apart_within_mm`` inside.
    """
    image = sitk.ReadImage(str(fixed), sitk.sitkFloat32)
    ours, theirs = (_mapped(folder / "transform.h5", image) for folder in (run, free))
    apart = np.linalg.norm(ours - theirs, axis=-1)
    beyond = ball.beyond_mm((_points(image) if side == "fixed" else theirs) * LPS)
    brain = sitk.GetArrayViewFromImage(image) > 0
    found = {
        "apart_mm": apart[brain & (beyond > 0)].mean(),
        "apart_near_mm": apart[brain & (beyond > 0) & (beyond <= NEAR_MM)].mean(),
        "apart_within_mm": apart[beyond <= 0].mean(),
    }
    return {key: round(float(value), 4) for key, value in found.items()}


def errors(
    run: Path, free: Path, truth: Path, fixed: Path, side: str, ball: Ball
) -> dict[str, float]:
    """Mean distances from the truth over the fixed foreground outside the sphere, in mm.

    Returns:
        ``true_error_mm`` of the run, ``true_error_free_mm`` of the free one.
    """
    image = sitk.ReadImage(str(fixed), sitk.sitkFloat32)
    true = _mapped(truth, image)
    beyond = ball.beyond_mm((_points(image) if side == "fixed" else true) * LPS)
    outside = (sitk.GetArrayViewFromImage(image) > 0) & (beyond > 0)
    found = {}
    for name, folder in (("true_error_mm", run), ("true_error_free_mm", free)):
        apart = np.linalg.norm(_mapped(folder / "transform.h5", image) - true, axis=-1)
        found[name] = round(float(apart[outside].mean()), 4)
    return found


def transformed_mm(path: Path, point_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    """A point mapped by a transform, RAS+ mm."""
    there = sitk.ReadTransform(str(path)).TransformPoint((LPS * point_mm).tolist())
    x, y, z = (LPS * there).tolist()
    return x, y, z


def _points(image: sitk.Image) -> Floats:
    """``(z, y, x, 3)`` voxels in LPS mm."""
    x, y, z = (np.arange(n, dtype=np.float64) for n in image.GetSize())
    index = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], -1) * np.array(image.GetSpacing())
    points: Floats = index @ np.array(image.GetDirection()).reshape(3, 3).T + image.GetOrigin()
    return points


def _mapped(path: Path, image: sitk.Image) -> Floats:
    """The voxels of an image mapped by a transform, LPS mm."""
    space = (image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    field = sitk.TransformToDisplacementField(
        sitk.ReadTransform(str(path)), sitk.sitkVectorFloat64, *space
    )
    mapped: Floats = sitk.GetArrayFromImage(field) + _points(image)
    return mapped
