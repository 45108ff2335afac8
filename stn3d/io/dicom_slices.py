"""Slices of DICOM files: what their headers say about their place in space and time.

Convention: positions are LPS, as in DICOM.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stn3d.errors import InputError
from stn3d.io.dicom_times import KEYWORDS, values_of
from stn3d.io.geometry import Matrix

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
