"""One plane through a registration: both images, edges, labels, landmarks and the deformation.

Pixel arrays are ``(H, W)`` with row 0 at the bottom, see `stn3d.report.planes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stn3d.grid import apply_matrix
from stn3d.io import Image
from stn3d.io.colours import channels_of, full_scale
from stn3d.preprocessing.intensity import limits
from stn3d.report.case import ReportCase
from stn3d.report.planes import (
    Pixels,
    Plane,
    brightness,
    image_on_plane,
    intensity_window,
    mapped_lines,
    otsu_thresholds,
)
from stn3d.sampler import sample
from stn3d.transforms import Chain

When = Literal["before", "after"]
Region = Literal["labels", "mask", "exclude"]

_DARK = 0.02  # brightness of the fixed image above which the moved image's window is measured
_SOME = 250_000  # values from which thresholds are computed
_COARSE = 2  # pixels of an image along a pixel of the deformation
_MOST_LINES = 26  # of the deformed grid along the longest side
_SLAB = 0.1  # of the longest side of the image; landmarks farther from the plane are faint


@dataclass(frozen=True, eq=False)
class View:
    """One plane of a registration.

    Args:
        case: the registration.
        plane: the plane, in fixed space.
        scales: what all planes of a picture share.
    """

    case: ReportCase
    plane: Plane
    scales: Scales

    @cached_property
    def points_mm(self) -> dict[When, Tensor]:
        """``(H, W, d)`` points of the moving image at each pixel."""
        points = self.plane.points_mm()
        with torch.no_grad():
            return {"before": points, "after": self.case.transform.forward(points)}

    @cached_property
    def fixed(self) -> NDArray[np.float64]:
        """Brightness ``(H, W)`` of the fixed image, or colours ``(H, W, 3)``."""
        points = self.points_mm["before"]
        return _colours(self.case.fixed, points, self.scales.fixed)

    def moved(self, when: When) -> NDArray[np.float64]:
        """Brightness or colours of the moving image, before or after registration."""
        return _colours(self.case.moving, self.points_mm[when], self.scales.moved)

    def edges(self, when: When) -> Pixels:
        """Opacity of the moving image's contours."""
        values = values_at(self.case.moving, self.points_mm[when])
        return contours(values, self.scales.levels)

    def fixed_edges(self) -> Pixels:
        """Opacity of the fixed image's contours."""
        values = values_at(self.case.fixed, self.points_mm["before"])
        return contours(values, self.scales.fixed_levels)

    def outlines(self, region: Region) -> dict[str, Pixels]:
        """Opacity of the outlines of a label map or mask, by ``fixed``, ``before``, ``after``."""
        found = {}
        fixed, moving = (getattr(side, region) for side in self.case.sides)
        if fixed is not None:
            found["fixed"] = borders(values_at(fixed, self.points_mm["before"], nearest=True))
        if moving is not None:
            for when, points in self.points_mm.items():
                found[when] = borders(values_at(moving, points, nearest=True))
        return found

    @cached_property
    def coarse(self) -> Plane:
        """The plane with the larger pixels of the deformation."""
        height, width = (max(1, round(n / _COARSE)) for n in self.plane.shape)
        pixel_mm = max(self.plane.size_mm) / max(height, width)
        return replace(self.plane, shape=(height, width), pixel_mm=pixel_mm)

    @cached_property
    def deformation(self) -> tuple[Pixels, Pixels]:
        """Displacement beyond the affine part in mm, and log-Jacobian of the transform; NaN where
        it folds."""
        points, d = self.coarse.points_mm(), self.case.transform.ndim
        step_mm = 0.5 * self.coarse.pixel_mm
        offsets = step_mm * torch.cat([torch.zeros(1, d), torch.eye(d), -torch.eye(d)]).double()
        with torch.no_grad():
            mapped = self.case.transform.forward(points + offsets[:, None, None])
            rest = self.case.affine.inverse().forward(mapped[0]) - points
        gradient = (mapped[1 : d + 1] - mapped[d + 1 :]).movedim(0, -1) / (2 * step_mm)
        determinant = torch.linalg.det(gradient).numpy()
        with np.errstate(invalid="ignore", divide="ignore"):
            logarithm = np.where(determinant > 0, np.log(determinant), np.nan)
        return rest.norm(dim=-1).numpy(), logarithm

    def expected_error(self, uncertainty: Image) -> Pixels:
        """The expected error in mm; 0 where nothing is known."""
        return values_at(uncertainty, self.coarse.points_mm(), nearest=True)

    def grid_lines(self) -> list[Tensor]:
        """``(n, 2)`` lines of a regular grid, deformed beyond the affine part, as positions on the
        plane in mm."""
        step_mm = max(self.plane.size_mm) / _MOST_LINES
        lines = self.plane.lines_mm(step_mm, samples_per_step=4)
        rest = Chain((self.case.transform, self.case.affine.inverse()))
        return [line[:, list(self.plane.axes)] for line in mapped_lines(lines, rest)]

    def landmarks(self) -> list[Landmark]:
        """The landmarks, those near the plane strongest."""
        sides = [side.landmarks_mm for side in self.case.sides]
        if sides[0] is None or sides[1] is None:
            return []
        fixed, moving = (points.double() for points in sides if points is not None)
        with torch.no_grad():
            goal = self.case.transform.forward(fixed)
        axes = list(self.plane.axes)
        others = [a for a in range(fixed.shape[1]) if a not in axes]
        away = (fixed - self.plane.at_mm)[:, others].norm(dim=1)
        near = 0.2 + 0.8 / (1 + (away / (_SLAB * max(self.case.fixed.grid.size_mm))) ** 2)
        # Drawn in fixed space: the error after registration, rotated back by the affine part.
        back = self.case.affine.inverse()
        with torch.no_grad():
            after = fixed + back.forward(moving) - back.forward(goal)
        errors = (moving - goal).norm(dim=1)
        return [
            Landmark(f[axes].tolist(), m[axes].tolist(), a[axes].tolist(), float(n), float(e))
            for f, m, a, n, e in zip(fixed, moving, after, near, errors, strict=True)
        ]


@dataclass(frozen=True)
class Landmark:
    """A pair of landmarks on a plane.

    Args:
        fixed: position right and up in mm.
        before: where the moving landmark lies before registration.
        after: where it lies after registration.
        nearness: 1 on the plane, down to 0.2 away from it.
        error_mm: distance after registration.
    """

    fixed: Sequence[float]
    before: Sequence[float]
    after: Sequence[float]
    nearness: float
    error_mm: float


@dataclass(frozen=True)
class Scales:
    """What all planes of a picture share.

    Args:
        fixed: intensity window of the fixed image.
        moved: intensity window of the moving image.
        fixed_levels: intensities of the fixed image's contours.
        levels: intensities of the moving image's contours.
    """

    fixed: tuple[float, float]
    moved: tuple[float, float]
    fixed_levels: Sequence[float]
    levels: Sequence[float]


def views_of(case: ReportCase) -> list[View]:
    """A view of each plane."""
    fixed = limits(case.fixed.values)
    inside = []
    for plane in case.planes:
        bright = brightness(image_on_plane(case.fixed, plane), fixed).ravel() > _DARK
        inside.append((image_on_plane(case.moving, plane, case.transform).ravel(), bright))
    moved, bright = (np.concatenate(part) for part in zip(*inside, strict=True))
    window = intensity_window(moved, bright) or limits(case.moving.values)
    scales = Scales(fixed, window, _levels(case.fixed), _levels(case.moving))
    return [View(case, plane, scales) for plane in case.planes]


def values_at(image: Image, points_mm: Tensor, *, nearest: bool = False) -> Pixels:
    """Values of an image at points ``(..., d)``; outside the image NaN, of the nearest voxel 0."""
    index = apply_matrix(image.grid.index_from_world, points_mm)[None]
    if nearest:
        return sample(image.values, index, "nearest")[0, 0].double().numpy()
    values = sample(image.values.float(), index, outside_value=np.nan)
    return values[0, 0].double().numpy()


def contours(values: Pixels, levels: Sequence[float]) -> Pixels:
    """Opacity of lines along which values cross levels: a line of one pixel, shared by the two
    pixels beside it in proportion to their distance from it."""
    lines = np.zeros(values.shape)
    for level in levels:
        for axis in (0, 1):
            a, b = _pairs(values, axis)
            with np.errstate(invalid="ignore", divide="ignore"):
                crosses = ((a < level) != (b < level)) & np.isfinite(a) & np.isfinite(b)
                share = np.where(crosses, np.clip((level - a) / (b - a), 0, 1), np.nan)
            first, second = _pairs(lines, axis)
            np.fmax(first, 1 - share, out=first)
            np.fmax(second, share, out=second)
    return np.minimum(1.5 * lines, 1.0)  # halfway between two pixels both are half covered


def borders(labels: Pixels) -> Pixels:
    """Opacity of the borders between labels: of pixels beside a smaller number."""
    lines = np.zeros(labels.shape)
    for axis in (0, 1):
        a, b = _pairs(labels, axis)
        first, second = _pairs(lines, axis)
        first[a > b] = 1.0
        second[b > a] = 1.0
    return lines


def _pairs(array: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Views of neighbours along an axis."""
    rows = [(slice(None, -1), slice(1, None)), (slice(None), slice(None))]
    first, second = rows[axis], rows[1 - axis]
    return array[first[0], second[0]], array[first[1], second[1]]


def _levels(image: Image) -> Sequence[float]:
    """Two intensities between background, darker and brighter tissue; none of a constant image."""
    values = image.values.flatten()[:: max(1, image.values.numel() // _SOME)]
    if float(values.min()) == float(values.max()):
        return ()
    return sorted(set(otsu_thresholds(values.float())))


def _colours(image: Image, points_mm: Tensor, window: tuple[float, float]) -> NDArray[np.float64]:
    """Brightness, or colours of a colour image; 0 outside the image."""
    if image.colours is None:
        return brightness(values_at(image, points_mm), window)
    channels = channels_of(image.colours)
    values = torch.from_numpy(np.moveaxis(channels, -1, 0)[:3].astype(np.float32))[None]
    index = apply_matrix(image.grid.index_from_world, points_mm)[None]
    found = sample(values, index)[0].movedim(0, -1) / float(full_scale(image.colours.dtype))
    return found.clamp(0, 1).double().numpy()
