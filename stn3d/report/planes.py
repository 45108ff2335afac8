"""What a picture shows, as arrays: planes through an image, overlays, checkerboards, grid lines.

Convention: a plane lies along two world axes (RAS+), so that its pixels are square in millimetres
and its sides have anatomical names, however oblique or anisotropic the image's own grid is. Pixel
arrays are ``(H, W)``: row 0 at the bottom, x to the right, so the person's left is on the left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.io import Image
from stn3d.sampler import sample
from stn3d.transforms import Affine, Transform

Pixels: TypeAlias = "NDArray[np.float64]"

FIXED_TINT = (0.66, 0.88, 1.0)
MOVED_TINT = (1.0, 0.80, 0.50)
SIDES = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True, eq=False)
class Plane:
    """A rectangle along two world axes.

    Args:
        name: ``axial``, ``coronal``, ``sagittal``, or ``image`` for d = 2.
        axes: the world axes that run to the right and upward.
        at_mm: ``(d,)`` a point of the plane.
        low_mm: where its left and its lower edge lie.
        shape: pixels upward and to the right, ``(H, W)``.
        pixel_mm: a pixel's edge.
    """

    name: str
    axes: tuple[int, int]
    at_mm: Tensor
    low_mm: tuple[float, float]
    shape: tuple[int, int]
    pixel_mm: float

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        return self.shape[1] * self.pixel_mm, self.shape[0] * self.pixel_mm

    @property
    def extent_mm(self) -> tuple[float, float, float, float]:
        """Left, right, lower and upper edge, as matplotlib wants it."""
        (left, lower), (width, height) = self.low_mm, self.size_mm
        return left, left + width, lower, lower + height

    def points_mm(self) -> Tensor:
        """``(H, W, d)`` world points of the pixel centres."""
        height, width = (torch.arange(n, dtype=torch.float64) + 0.5 for n in self.shape)
        up, across = torch.meshgrid(height, width, indexing="ij")
        return self.placed(torch.stack([across, up], dim=-1) * self.pixel_mm + self._low())

    def placed(self, inplane_mm: Tensor) -> Tensor:
        """``(..., d)`` world points from ``(..., 2)`` positions to the right and upward."""
        points = self.at_mm.double().expand(*inplane_mm.shape[:-1], -1).clone()
        points[..., list(self.axes)] = inplane_mm
        return points

    def lines_mm(self, step_mm: float, samples_per_step: int = 12) -> list[Tensor]:
        """A regular grid's lines: world points ``(n, d)`` of each, upward ones first."""
        lines = []
        for fast in (1, 0):
            slow = 1 - fast
            count = max(2, math.floor(self.size_mm[slow] / step_mm))
            length = count * samples_per_step + 1
            for share in (torch.arange(count, dtype=torch.float64) + 0.5) / count:
                unit = torch.empty(length, 2, dtype=torch.float64)
                unit[:, slow] = share
                unit[:, fast] = torch.linspace(0, 1, length, dtype=torch.float64)
                lines.append(self.placed(unit * torch.tensor(self.size_mm) + self._low()))
        return lines

    def _low(self) -> Tensor:
        return torch.tensor(self.low_mm, dtype=torch.float64)


def planes_of(grid: Grid, at_mm: Tensor | None = None, pixels: int = 440) -> list[Plane]:
    """The planes through a point of a grid: coronal, sagittal, axial; for d = 2 the one.

    Args:
        grid: its bounding box in the world is what the planes cover.
        at_mm: ``(d,)`` where they cross, drawn back into the box; its middle by default.
        pixels: along the box's longest edge.
    """
    corners = apply_matrix(
        grid.world_from_unit, torch.tensor(list(product((0.0, 1.0), repeat=grid.ndim))).double()
    )
    low, high = corners.min(dim=0).values, corners.max(dim=0).values
    at = grid.centre_mm if at_mm is None else torch.clamp(at_mm.double(), low, high)
    pixel_mm = float((high - low).max()) / pixels
    wanted: list[tuple[str, tuple[int, int]]] = [("image", (0, 1))]
    if grid.ndim == 3:
        wanted = [("coronal", (0, 2)), ("sagittal", (1, 2)), ("axial", (0, 1))]
    planes = []
    for name, (across, up) in wanted:
        shape = [max(1, math.ceil(float(high[a] - low[a]) / pixel_mm - 1e-6)) for a in (up, across)]
        corner = (float(low[across]), float(low[up]))
        planes.append(Plane(name, (across, up), at, corner, (shape[0], shape[1]), pixel_mm))
    return planes


@torch.no_grad()
def carried(lines: Sequence[Tensor], transform: Transform) -> list[Tensor]:
    """Lines ``(n, d)`` of world points through a transform, all at once."""
    mapped = transform.forward(torch.cat(list(lines)))
    return list(mapped.split([len(line) for line in lines]))


@torch.no_grad()
def seen(image: Image, plane: Plane, transform: Transform | None = None) -> Pixels:
    """An image on a plane, read where the transform sends the plane; NaN beyond the image.

    Args:
        image: the image.
        plane: where to look.
        transform: the plane's points to the image's points; the identity by default.
    """
    points = plane.points_mm()
    if transform is not None:
        points = transform.forward(points)
    index = apply_matrix(image.grid.index_from_world, points)[None]
    values = sample(image.values.float(), index, outside_value=math.nan)
    return values[0, 0].double().numpy()


def window_within(pixels: Pixels, region: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Black and white by the pixels of a region (0.5 % and 99.5 %); None where these are few."""
    values = pixels[region & np.isfinite(pixels)]
    if values.size < 100:
        return None
    low, high = np.percentile(values, (0.5, 99.5))
    return (float(low), float(high)) if high > low else None


def grey(pixels: Pixels, black_white: tuple[float, float]) -> Pixels:
    """Brightness from 0 to 1; black where there is no image."""
    low, high = black_white
    return np.nan_to_num(np.clip((pixels - low) / max(high - low, 1e-12), 0, 1))


def checkerboard(
    fixed: Pixels, moved: Pixels, plane: Plane, squares: int = 8
) -> NDArray[np.float64]:
    """Squares of both images in turn, ``(H, W, 3)``: the fixed one bluish, the moved one orange.

    Args:
        fixed: ``(H, W)`` brightness; the square at the lower left is of this one.
        moved: ``(H, W)`` brightness.
        plane: of both.
        squares: along the plane's longer side.
    """
    size = max(1, round(max(plane.shape) / squares))
    row, column = np.indices(plane.shape)
    odd = ((row // size + column // size) % 2 == 1)[..., None]
    return np.where(
        odd, moved[..., None] * np.array(MOVED_TINT), fixed[..., None] * np.array(FIXED_TINT)
    )


def otsu_thresholds(values: NDArray[Any] | Tensor, bins: int = 256) -> tuple[float, float]:
    """The two thresholds that part values into three classes of least variance.

    Otsu 1979, doi:10.1109/TSMC.1979.4310076, by SimpleITK.
    """
    import SimpleITK as sitk

    row = np.asarray(values, dtype=np.float64).reshape(1, -1)
    otsu = sitk.OtsuMultipleThresholdsImageFilter()
    otsu.SetNumberOfThresholds(2)
    otsu.SetNumberOfHistogramBins(bins)
    otsu.Execute(sitk.GetImageFromArray(row))
    low, high = otsu.GetThresholds()
    return float(low), float(high)


def affine_part(transform: Transform, grid: Grid, per_axis: int = 10) -> Affine:
    """The affine nearest to a transform over a grid's domain, by least squares."""
    points = grid.with_shape([per_axis] * grid.ndim).points_mm().flatten(0, -2)
    with torch.no_grad():
        mapped = transform.forward(points)
    centre, target = points.mean(dim=0), mapped.mean(dim=0)
    linear = torch.linalg.lstsq(points - centre, mapped - target).solution.T
    return Affine.from_matrix(homogeneous(linear, target - linear @ centre), centre)


def turn_deg(affine: Affine) -> float:
    """The angle of the rotation nearest to an affine."""
    left, _, right = torch.linalg.svd(affine.linear_part().double())
    rotation = left @ right
    d = affine.ndim
    cosine = (float(rotation.trace()) - (d - 2)) / 2
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def nice(length: float, steps: Sequence[float] = (1, 2, 5)) -> float:
    """The largest round length (1, 2 or 5 times a power of ten) that is not longer."""
    power = 10 ** math.floor(math.log10(length))
    return max(step for step in steps if step * power <= length * (1 + 1e-9)) * power
