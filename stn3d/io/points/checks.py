"""Checks of what files hold, and the words for it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn3d.choices import CoordinateSystem
from stn3d.errors import InputError
from stn3d.io.points.mapping import Floats
from stn3d.io.texts import shown_path

FLIPS: dict[CoordinateSystem, Floats] = {
    "ras": np.array([1.0, 1.0, 1.0]),
    "lps": np.array([-1.0, -1.0, 1.0]),
}
_MOST_MM = 1e9


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def first_bytes(path: Path, count: int) -> bytes:
    """The beginning of a file."""
    with path.open("rb") as file:
        return file.read(count)


def require_file(path: Path, what: str) -> Path:
    """Make sure that a file exists.

    Raises:
        InputError: it does not.
    """
    if not path.is_file():
        raise InputError(f"there is no {what} {shown_path(path)}; check the path.")
    return path


@contextmanager
def damaged_is_one_sentence(path: Path, what: str) -> Iterator[None]:
    """Any error of a library becomes an `InputError`; its warnings are dropped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:  # parsers raise anything on damaged files
        raise InputError(
            f"{path} cannot be read as {what}; check that it is complete and that its extension "
            "fits its content."
        ) from error


def require_coordinates(points_mm: NDArray[Any], path: Path, what: str = "vertex") -> Floats:
    """Points as ``(n, 3)`` float64.

    Raises:
        InputError: there are none, or one is not finite or not below 1e9.
    """
    points = np.asarray(points_mm, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise InputError(f"{path} holds no points; give a file with at least one.")
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~(np.abs(points) < _MOST_MM).all(axis=1))
    if len(bad):
        raise InputError(
            f"{path}: the coordinates of {what} {bad[0] + 1} of {len(points)} are not numbers "
            "below 1e9; correct the file."
        )
    return points


def require_finite(points_mm: NDArray[Any], path: Path) -> None:
    """Make sure that all points can be written.

    Raises:
        InputError: one is NaN or Inf.
    """
    bad = np.flatnonzero(~np.isfinite(points_mm).all(axis=1))
    if len(bad):
        raise InputError(
            f"cannot write {path}: point {bad[0] + 1} of {len(points_mm)} is NaN or Inf after the "
            "transform; check the transform, and that the points are in millimetres."
        )


def stated_coordinates(comments: Sequence[str]) -> CoordinateSystem | None:
    """Coordinate system that 3D Slicer states in a comment, ``SPACE=LPS``; None without one."""
    for comment in comments:
        for name in FLIPS:
            if f"space={name}" in comment.lower().replace(" ", ""):
                return name
    return None


def unstated_note(path: Path, coordinates: CoordinateSystem) -> str:
    """A note on a coordinate system that was assumed."""
    other = "lps" if coordinates == "ras" else "ras"
    return (
        f"{path.name} does not state its coordinate system; {coordinates.upper()} is assumed "
        f"(--coordinates {other} for the other one)"
    )
