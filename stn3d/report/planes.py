"""The content of a picture as arrays: planes through an image, checkerboards, grid lines.

Convention: a plane lies along two world axes (RAS+). Its pixels are square in mm and its sides have
anatomical names, even where the image grid is oblique or anisotropic. Pixel arrays are ``(H, W)``
with row 0 at the bottom and x to the right: the patient's left is on the left (neurological).
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
_THIN = 1 / 12  # of the longest side; planes across a slice are thinner
SIDES = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True, eq=False)
class Plane:
    """A rectangle along two world axes.

    Args:
        name: ``axial``, ``coronal``, ``sagittal``, or ``image`` for d = 2.
        axes: world axes that point right and up.
        at_mm: ``(d,)`` a point of the plane.
        low_mm: position of the left and of the lower edge.
        shape: number of pixels, ``(H, W)``.
        pixel_mm: edge length of a pixel.
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
        """Left, right, lower and upper edge: matplotlib's ``extent``."""
        (left, lower), (width, height) = self.low_mm, self.size_mm
        return left, left + width, lower, lower + height

    def points_mm(self) -> Tensor:
        """``(H, W, d)`` world points of the pixel centres."""
        height, width = (torch.arange(n, dtype=torch.float64) + 0.5 for n in self.shape)
        up, across = torch.meshgrid(height, width, indexing="ij")
        return self.in_world(torch.stack([across, up], dim=-1) * self.pixel_mm + self._low())

    def in_world(self, inplane_mm: Tensor) -> Tensor:
        """``(..., d)`` world points of ``(..., 2)`` positions right and up."""
        points = self.at_mm.double().expand(*inplane_mm.shape[:-1], -1).clone()
        points[..., list(self.axes)] = inplane_mm
        return points

    def lines_mm(self, step_mm: float, samples_per_step: int = 12) -> list[Tensor]:
        """Lines of a regular grid, ``(n, d)`` world points each; vertical lines first."""
        lines = []
        for fast in (1, 0):
            slow = 1 - fast
            count = max(2, math.floor(self.size_mm[slow] / step_mm))
            length = count * samples_per_step + 1
            for share in (torch.arange(count, dtype=torch.float64) + 0.5) / count:
                unit = torch.empty(length, 2, dtype=torch.float64)
                unit[:, slow] = share
                unit[:, fast] = torch.linspace(0, 1, length, dtype=torch.float64)
                lines.append(self.in_world(unit * torch.tensor(self.size_mm) + self._low()))
        return lines

    def _low(self) -> Tensor:
        return torch.tensor(self.low_mm, dtype=torch.float64)


def planes_of(grid: Grid, at_mm: Tensor | None = None, pixels: int = 440) -> list[Plane]:
    """The coronal, sagittal and axial plane through a point; a single plane for d = 2 and of a
    single slice.

    Args:
        grid: the planes cover its bounding box in world coordinates.
        at_mm: ``(d,)`` the point, moved into the box if it is outside. Default: the centre.
        pixels: number of pixels along the longest edge of the box.
    """
    corners = apply_matrix(
        grid.world_from_unit, torch.tensor(list(product((0.0, 1.0), repeat=grid.ndim))).double()
    )
    low, high = corners.min(dim=0).values, corners.max(dim=0).values
    at = grid.centre_mm if at_mm is None else torch.clamp(at_mm.double(), low, high)
    longest_mm = float((high - low).max())
    pixel_mm = longest_mm / pixels
    wanted: list[tuple[str, tuple[int, int]]] = [("image", (0, 1))]
    if grid.ndim == 3:
        wanted = [("coronal", (0, 2)), ("sagittal", (1, 2)), ("axial", (0, 1))]
    planes = []
    for name, (across, up) in wanted:
        shape = [max(1, math.ceil(float(high[a] - low[a]) / pixel_mm - 1e-6)) for a in (up, across)]
        corner = (float(low[across]), float(low[up]))
        planes.append(Plane(name, (across, up), at, corner, (shape[0], shape[1]), pixel_mm))
    thin = {axis for axis in range(grid.ndim) if high[axis] - low[axis] < _THIN * longest_mm}
    wide = [plane for plane in planes if not thin & set(plane.axes)]
    return wide or planes


@torch.no_grad()
def mapped_lines(lines: Sequence[Tensor], transform: Transform) -> list[Tensor]:
    """Lines ``(n, d)`` of world points, mapped by a transform."""
    mapped = transform.forward(torch.cat(list(lines)))
    return list(mapped.split([len(line) for line in lines]))


@torch.no_grad()
def image_on_plane(image: Image, plane: Plane, transform: Transform | None = None) -> Pixels:
    """An image resampled on a plane; NaN outside the image.

    Args:
        image: the image.
        plane: the plane.
        transform: points of the plane to points of the image. Default: identity.
    """
    points = plane.points_mm()
    if transform is not None:
        points = transform.forward(points)
    index = apply_matrix(image.grid.index_from_world, points)[None]
    values = sample(image.values.float(), index, outside_value=math.nan)
    return values[0, 0].double().numpy()


def intensity_window(pixels: Pixels, region: NDArray[np.bool_]) -> tuple[float, float] | None:
    """The 0.5th and 99.5th percentile of the pixels in a region; None for fewer than 100 pixels."""
    values = pixels[region & np.isfinite(pixels)]
    if values.size < 100:
        return None
    low, high = np.percentile(values, (0.5, 99.5))
    return (float(low), float(high)) if high > low else None


def brightness(pixels: Pixels, window: tuple[float, float]) -> Pixels:
    """Intensities scaled from a window to 0 to 1; 0 outside the image."""
    low, high = window
    return np.nan_to_num(np.clip((pixels - low) / max(high - low, 1e-12), 0, 1))


def checkerboard(
    fixed: Pixels, moved: Pixels, plane: Plane, squares: int = 8
) -> NDArray[np.float64]:
    """Alternating squares of two images, ``(H, W, 3)``: fixed image blue, moved image orange.

    Args:
        fixed: ``(H, W)`` brightness; the lower left square shows it.
        moved: ``(H, W)`` brightness.
        plane: plane of both images.
        squares: number of squares along the longer side.
    """
    size = max(1, round(max(plane.shape) / squares))
    row, column = np.indices(plane.shape)
    odd = ((row // size + column // size) % 2 == 1)[..., None]
    return np.where(
        odd, moved[..., None] * np.array(MOVED_TINT), fixed[..., None] * np.array(FIXED_TINT)
    )


def otsu_thresholds(values: NDArray[Any] | Tensor, bins: int = 256) -> tuple[float, float]:
    """Two thresholds that split values into three classes with the least variance within classes.

    Otsu 1979, doi:10.1109/TSMC.1979.4310076, computed by SimpleITK.
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
    """The affine transform that fits a transform best over a grid, by least squares."""
    points = grid.with_shape([per_axis] * grid.ndim).points_mm().flatten(0, -2)
    with torch.no_grad():
        mapped = transform.forward(points)
    centre, target = points.mean(dim=0), mapped.mean(dim=0)
    linear = torch.linalg.lstsq(points - centre, mapped - target).solution.T
    # LAPACK's last digits depend on where arrays lie in memory; equal pages are equal bytes.
    matrix = homogeneous(linear, target - linear @ centre).round(decimals=9)
    return Affine.from_matrix(matrix, centre)


def rotation_angle_deg(affine: Affine) -> float:
    """Angle of the rotation that is closest to an affine transform, in degrees."""
    left, _, right = torch.linalg.svd(affine.linear_part().double())
    rotation = left @ right
    d = affine.ndim
    cosine = (float(rotation.trace()) - (d - 2)) / 2
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def round_length(length: float, steps: Sequence[float] = (1, 2, 5)) -> float:
    """The largest 1, 2 or 5 times a power of ten that does not exceed a length."""
    power = 10 ** math.floor(math.log10(length))
    return max(step for step in steps if step * power <= length * (1 + 1e-9)) * power
