"""Slices of DICOM files, and the grid on which they lie.

Convention: positions are LPS, as in DICOM. The affine maps (column, row, slice) to RAS. It is
derived from the position of every slice, so it may shear (gantry tilt).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import GeometryWarning, InputError
from stn3d.io.dicom_times import ATTRIBUTES, KEYWORDS, time_points, values_of
from stn3d.io.geometry import Matrix, lps_flip

_UNEVEN = 0.1  # deviation of the distance between two slices, as a fraction of the median
_CROOKED = 0.5  # deviation of a slice from the straight line through the stack, likewise
_SAME_PLACE = 1e-2  # slices closer than this fraction of a pixel have one position
_MOVED = 0.05  # shift between time points, likewise, that is not due to rounding
_TOLD_SHEAR = 0.1  # shift of the last slice within its plane, in pixels, that is reported
_STRAIGHT = 0.01  # a smaller shift is due to rounding
_COSINES = 1e-3  # largest difference between the direction cosines of parallel slices
_TAGS = [
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceThickness",
    *KEYWORDS,
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


@dataclass(frozen=True)
class Slice:
    """A slice of a series: one file, or one frame of a file.

    Args:
        path: file.
        series: identifier of the series.
        size: numbers of columns and rows.
        frame: number of the frame in the file, counted from 0.
        position: LPS position of the first pixel; None if it is not stored.
        cosines: ``(2, 3)`` LPS directions along a row and along a column; None if not stored.
        spacing: distances between columns and between rows; None if not stored.
        thickness: of the slice; None if not stored.
        times: values that may order slices at one position, see `stn3d.io.dicom_times`.
    """

    path: Path
    series: str
    size: tuple[int, int]
    frame: int
    position: Matrix | None
    cosines: Matrix | None
    spacing: tuple[float, float] | None
    thickness: float | None = None
    times: Mapping[str, float] = field(default_factory=dict)


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def slices_of(path: Path) -> list[Slice]:
    """Slices of a DICOM file; none if it holds no image.

    Raises:
        InputError: the file is damaged.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header: Any = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            return _slices(header, path)
    except Exception as error:  # whatever pydicom may raise for a damaged file
        raise InputError(
            f"{path} cannot be read as a DICOM file; check that it is complete."
        ) from error


def _slices(header: Any, path: Path) -> list[Slice]:
    if "Rows" not in header or "Columns" not in header:
        return []
    size = int(header.Columns), int(header.Rows)
    series = str(header.get("SeriesInstanceUID", ""))
    frames = header.get("PerFrameFunctionalGroupsSequence") or [header]
    several = int(header.get("NumberOfFrames") or 1)
    if len(frames) != several:
        frames = [header] * several
    shared = (header.get("SharedFunctionalGroupsSequence") or [header])[0]
    found = []
    for number, frame in enumerate(frames):
        position = _numbers(frame, shared, "PlanePositionSequence", "ImagePositionPatient", 3)
        if frame is header and several > 1:
            position = None  # it is that of the first frame
        cosines = _numbers(frame, shared, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
        spacing = _numbers(frame, shared, "PixelMeasuresSequence", "PixelSpacing", 2)
        if spacing is None:
            spacing = _numbers(header, header, "", "ImagerPixelSpacing", 2)
        rows = None if cosines is None else cosines.reshape(2, 3)
        apart = None if spacing is None else (float(spacing[1]), float(spacing[0]))
        thickness = _one(frame, shared, "PixelMeasuresSequence", "SliceThickness")
        times = values_of(header, frame) if frame is not header or several == 1 else {}
        found.append(Slice(path, series, size, number, position, rows, apart, thickness, times))
    return found


def _numbers(frame: Any, shared: Any, group: str, name: str, count: int) -> Matrix | None:
    """Numbers of an attribute of a frame or of all frames; None if it is absent or invalid."""
    for owner in (frame, shared):
        groups = owner.get(group) if group else None
        value = (groups[0] if groups else owner).get(name)
        if value is not None and not isinstance(value, str | float | int) and len(value) == count:
            numbers = np.array([float(number) for number in value])
            return numbers if np.isfinite(numbers).all() else None
    return None


def _one(frame: Any, shared: Any, group: str, name: str) -> float | None:
    """A positive number of a frame or of all frames; None if it is absent or invalid."""
    for owner in (frame, shared):
        groups = owner.get(group)
        with suppress(TypeError, ValueError):
            value = float((groups[0] if groups else owner).get(name))
            if np.isfinite(value) and value > 0:
                return value
    return None


# -- the grid -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """Slices on a regular grid.

    Args:
        volumes: slices of each volume in order along their normal; one volume, or time points.
        affine: ``(4, 4)`` RAS affine of the grid.
        interval_s: time between two volumes; 0 where it is unknown.
    """

    volumes: list[list[Slice]]
    affine: Matrix
    interval_s: float = 0.0


def stacked(slices: Sequence[Slice], name: str) -> Stack:
    """The grid of slices, which is derived from their positions.

    Several slices at each position are time points if an attribute orders them, see
    `stn3d.io.dicom_times`.

    Args:
        slices: at least two slices.
        name: name of the series in messages.

    Raises:
        InputError: the slices do not lie on one regular grid, or slices at one position cannot be
            told apart.
    """
    cosines, spacing = _common_plane(slices, name)
    normal = np.cross(cosines[0], cosines[1])
    heights = np.array([one.position for one in slices]) @ normal
    rows, interval_s = _volumes(slices, heights, min(spacing), name)
    volumes = [[slices[n] for n in row] for row in rows]
    each = np.array([[one.position for one in volume] for volume in volumes])
    if np.linalg.norm(each - each[0], axis=2).max() > _MOVED * min(spacing):
        raise InputError(
            f"the time points of {name} lie at different positions; copy the slices of one volume "
            "into a separate folder."
        )
    ordered, positions = volumes[0], each[0]
    if len(positions) == 1:
        step = normal * (ordered[0].thickness or 1.0)
    else:
        step = _even_step(positions, normal, ordered, min(spacing), name)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = cosines[0] * spacing[0], cosines[1] * spacing[1]
    lps[:3, 2], lps[:3, 3] = step, positions[0]
    affine: Matrix = lps_flip(3) @ lps
    return Stack(volumes, affine, interval_s)


def _even_step(
    positions: Matrix, normal: Matrix, slices: Sequence[Slice], pixel: float, name: str
) -> Matrix:
    """The vector from a slice to the next one, with the shear of a gantry tilt."""
    steps = np.diff(positions, axis=0)
    step: Matrix = (positions[-1] - positions[0]) / len(steps)
    _check_even(positions, steps, slices, name)
    shift = step - (step @ normal) * normal
    drift = float(np.linalg.norm(shift)) * len(steps) / pixel
    if drift < _STRAIGHT:
        step = (step @ normal) * normal
    elif drift > _TOLD_SHEAR:
        angle = np.degrees(np.arctan2(np.linalg.norm(shift), step @ normal))
        warnings.warn(
            f"the slices of {name} shear by {angle:.3g} degrees (gantry tilt); stn3d reads the "
            "shear from their positions, many other tools ignore it.",
            GeometryWarning,
            stacklevel=2,
        )
    return step


def _common_plane(slices: Sequence[Slice], name: str) -> tuple[Matrix, tuple[float, float]]:
    """Direction cosines and pixel spacing, which all slices share."""
    first = slices[0]
    for one in slices:
        missing = _missing(one)
        if missing:
            raise InputError(
                f"the slice {one.path} has no {missing}, so its place is unknown; "
                "convert the series to .nii.gz with its geometry."
            )
    cosines, spacing = first.cosines, first.spacing
    assert cosines is not None
    assert spacing is not None
    if np.abs(cosines @ cosines.T - np.eye(2)).max() > 1e-2 or min(spacing) <= 0:
        raise InputError(f"{first.path} has an invalid orientation or spacing; correct its header.")
    different = [
        one
        for one in slices
        if one.cosines is None or np.abs(one.cosines - cosines).max() > _COSINES
    ]
    if different:
        raise InputError(
            f"the slices of {name} have different orientations ({different[0].path.name} against "
            f"{first.path.name}); copy the slices of one stack into a separate folder."
        )
    if any(one.size != first.size or one.spacing != spacing for one in slices):
        raise InputError(
            f"the slices of {name} differ in size or pixel spacing; copy the slices of one stack "
            "into a separate folder."
        )
    return cosines, spacing


def _missing(one: Slice) -> str | None:
    """What a slice lacks for its place in space."""
    attributes = {
        "position (0020,0032)": one.position,
        "orientation (0020,0037)": one.cosines,
        "pixel spacing (0028,0030)": one.spacing,
    }
    return next((name for name, value in attributes.items() if value is None), None)


def _volumes(
    slices: Sequence[Slice], heights: Matrix, pixel: float, name: str
) -> tuple[NDArray[np.intp], float]:
    """``(T, n)`` numbers of the slices by volume and position, and the time between volumes."""
    order = np.argsort(heights, kind="stable")
    is_new = np.diff(heights[order], prepend=-np.inf) > _SAME_PLACE * pixel
    places = np.empty(len(slices), dtype=np.intp)
    places[order] = np.cumsum(is_new) - 1
    counts = np.bincount(places)
    if counts.max() == 1:
        return order[None], 0.0
    found = time_points(places, [one.times for one in slices])
    if found is None:
        raise InputError(_ambiguous(counts, name))
    times, each = found.rows.shape
    per_volume = "1 slice" if each == 1 else f"{each} slices"
    warnings.warn(
        f"{name} holds {times} volumes of {per_volume}, in the order of "
        f"{found.attribute.keyword} {found.attribute.tag}.",
        GeometryWarning,
        stacklevel=2,
    )
    return found.rows, found.interval_s


def _ambiguous(counts: NDArray[np.intp], name: str) -> str:
    """What is wrong with slices at the same position."""
    known = ", ".join(one.keyword for one in ATTRIBUTES)
    if len(counts) == 1:
        what = f"all {counts[0]} slices of {name} have the same position"
    elif counts.min() == counts.max():
        what = f"{name} has {counts[0]} slices at each of {len(counts)} positions"
    else:
        return (
            f"{name} has up to {counts.max()} slices at the same position, but {counts.min()} at "
            "another one; complete the time points, copy the slices of one volume into a separate "
            "folder, or convert the series with dcm2niix."
        )
    return (
        f"{what}, and no attribute divides them into volumes ({known}); copy the slices of one "
        "volume into a separate folder, or convert the series with dcm2niix."
    )


def _check_even(positions: Matrix, steps: Matrix, slices: Sequence[Slice], name: str) -> None:
    """Check that slices in order are evenly spaced and lie on a straight line."""
    median = np.median(steps, axis=0)
    distance = float(np.linalg.norm(median))
    gaps = np.linalg.norm(steps - median, axis=1)
    line = np.linspace(positions[0], positions[-1], len(positions))
    off = np.linalg.norm(positions - line, axis=1)
    if gaps.max() <= _UNEVEN * distance and off.max() <= _CROOKED * distance:
        return
    worst = int(gaps.argmax())
    uneven = max(float(gaps.max()), float(off.max()))
    a, b = slices[worst], slices[worst + 1]
    where = (
        f"{a.path.name} and {b.path.name}"
        if a.path != b.path
        else f"frames {a.frame} and {b.frame}"
    )
    raise InputError(
        f"slices in {name} are missing or unevenly spaced by up to {uneven:.3g} mm (between "
        f"{where}); complete the series, or resample it to evenly spaced slices."
    )
