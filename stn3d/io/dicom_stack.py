"""The grid on which the slices of a DICOM series lie, and the volumes that they form.

Convention: positions are LPS, as in DICOM. The affine maps (column, row, slice) to RAS. It is
derived from the position of every slice, so it may shear (gantry tilt).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import GeometryWarning, InputError
from stn3d.io.dicom_slices import Slice
from stn3d.io.dicom_times import ATTRIBUTES, time_points
from stn3d.io.geometry import Matrix, lps_flip

_UNEVEN = 0.1  # deviation of the distance between two slices, as a fraction of the median
_CROOKED = 0.5  # deviation of a slice from the straight line through the stack, likewise
_SAME_PLACE = 1e-2  # slices closer than this fraction of a pixel have one position
_MOVED = 0.05  # shift between time points, likewise, that is not due to rounding
_TOLD_SHEAR = 0.1  # shift of the last slice within its plane, in pixels, that is reported
_STRAIGHT = 0.01  # a smaller shift is due to rounding
_COSINES = 1e-3  # largest difference between the direction cosines of parallel slices


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
            distinguished.
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
