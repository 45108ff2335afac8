"""Points as CSV: a header line, then x, y[, z] in world RAS+ mm and further columns.

Point lists of 3D Slicer (.mrk.json, .fcsv) are read as a table with a column `label`.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stn3d.errors import InputError, shown, shown_text
from stn3d.io.files import atomic_write
from stn3d.io.markups import MARKUP_SUFFIXES, coordinates_mm, parse_markups, rows_of
from stn3d.io.texts import read_text

_MOST_MB = 1024
_NAME_COLUMNS = ("name", "label")  # columns that identify landmarks


@dataclass(frozen=True)
class PointTable:
    """Header and further columns of a point file.

    Args:
        header: names of all columns, coordinates first.
        others: further columns of each point, as text.
    """

    header: tuple[str, ...]
    others: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> tuple[str, ...] | None:
        """Content of the column `name` or `label` for each point; None without such a column."""
        titles = [title.lower() for title in self.header[len(self.header) - len(self.others[0]) :]]
        column = next((titles.index(title) for title in _NAME_COLUMNS if title in titles), None)
        if column is None or not any(row[column].strip() for row in self.others):
            return None
        return tuple(row[column].strip() for row in self.others)


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The same landmarks in two images.

    Args:
        names: names of the landmarks; row numbers from 1 if the files have no names.
        fixed_mm: ``(N, d)`` float64 points in the fixed image, world RAS+ millimetres.
        moving_mm: ``(N, d)`` the same landmarks in the moving image.
    """

    names: tuple[str, ...]
    fixed_mm: Tensor
    moving_mm: Tensor


def read_landmarks(fixed: str | os.PathLike[str], moving: str | os.PathLike[str]) -> Landmarks:
    """Read corresponding landmarks from two files.

    Rows are matched by the column `name` or `label` if both files have one, otherwise by order.

    Args:
        fixed: file of landmarks in the fixed image, see `read_points`.
        moving: file of the same landmarks in the moving image.

    Raises:
        InputError: a file cannot be read, or the files do not hold the same landmarks.
    """
    (fixed_mm, table), (moving_mm, other) = read_points(fixed), read_points(moving)
    if fixed_mm.shape[1] != moving_mm.shape[1]:
        raise InputError(
            f"{moving} holds {moving_mm.shape[1]}D points and {fixed} {fixed_mm.shape[1]}D points; "
            "both need the same dimension."
        )
    if table.names is not None and other.names is not None:
        order = _order(_distinct(table.names, fixed), _distinct(other.names, moving), fixed, moving)
        return Landmarks(table.names, fixed_mm, moving_mm[order])
    if len(fixed_mm) != len(moving_mm):
        raise InputError(
            f"{fixed} holds {len(fixed_mm)} points and {moving} {len(moving_mm)}; give the same "
            "landmarks in both, in the same order or with a column `name` in both."
        )
    rows = tuple(str(row) for row in range(1, len(fixed_mm) + 1))
    return Landmarks(table.names or other.names or rows, fixed_mm, moving_mm)


def _distinct(names: tuple[str, ...], path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names, checked to be unique and not empty."""
    counts = Counter(names)
    bad = next((name for name in names if not name or counts[name] > 1), None)
    if bad is not None:
        what = f"two points have the name {shown(bad)}" if bad else "a point has no name"
        raise InputError(
            f"{path}: {what}; give each landmark one unique name, as in the other file."
        )
    return names


def _order(
    names: tuple[str, ...],
    others: tuple[str, ...],
    fixed: str | os.PathLike[str],
    moving: str | os.PathLike[str],
) -> list[int]:
    """Position of each name of the fixed landmarks among the moving ones."""
    place, known = {name: row for row, name in enumerate(others)}, set(names)
    for one, other, holder, lacker in (
        (names, place.keys(), fixed, moving),
        (others, known, moving, fixed),
    ):
        alone = [name for name in one if name not in other]
        if alone:
            more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
            raise InputError(
                f"{holder} holds the landmark {shown(alone[0])}{more}, {lacker} does not; use the "
                "same names in both files, or remove the column from one to match rows by order."
            )
    return [place[name] for name in names]


def read_points(path: str | os.PathLike[str]) -> tuple[Tensor, PointTable]:
    """Read points.

    Args:
        path: CSV file whose header line begins with x,y,z (3D) or x,y (2D); or a point list of 3D
            Slicer, ``.mrk.json`` or ``.fcsv``, of which position and label are read.

    Returns:
        ``(N, d)`` float64 points in world RAS+ millimetres, and the further columns.

    Raises:
        InputError: the file does not exist or is not such a table, or a row is invalid; the message
            names the row.
    """
    path = Path(path)
    text = read_text(path, "point file", "give points as CSV with the header x,y,z", _MOST_MB)
    if path.suffix.lower() in MARKUP_SUFFIXES:
        return _of_markups(text, path)
    rows = [one for one in rows_of(text.splitlines(), path) if any(map(str.strip, one[1]))]
    header = tuple(cell.strip() for cell in rows[0][1]) if rows else ()
    ndim = _count_coordinates(header, path)
    points = [_coordinates(row, len(header), ndim, path, line) for line, row in rows[1:]]
    if not points:
        raise InputError(f"{path} holds no points below its header line; add at least one.")
    others = tuple(tuple(row[ndim:]) for _, row in rows[1:])
    return torch.tensor(points, dtype=torch.float64), PointTable(header, others)


def _of_markups(text: str, path: Path) -> tuple[Tensor, PointTable]:
    markups = parse_markups(text, path)
    if not markups:
        raise InputError(f"{path} holds no points; add at least one.")
    points = torch.tensor([one.point_mm for one in markups], dtype=torch.float64)
    labels = tuple((one.label,) for one in markups)
    return points, PointTable(("x", "y", "z", "label"), labels)


def _count_coordinates(header: tuple[str, ...], path: Path) -> int:
    """Number of dimensions, 2 or 3, from the first names of the header line."""
    names = [name.lower().removesuffix("_mm") for name in header[:3]]
    if names[:2] != ["x", "y"]:
        raise InputError(
            f"{path}, line 1: the header must begin with x,y,z (or x,y in 2D), separated by "
            f"commas; it is {shown_text(','.join(header)) or 'empty'}."
        )
    return 3 if names[2:] == ["z"] else 2


def _coordinates(row: list[str], width: int, ndim: int, path: Path, line: int) -> list[float]:
    """Coordinates of one row."""
    if len(row) != width:
        raise InputError(
            f"{path}, line {line}: {len(row)} columns, but the header has {width}; correct the row."
        )
    values = coordinates_mm(row[:ndim])
    if values is None:
        cells = shown_text(",".join(row[:ndim]))
        raise InputError(
            f"{path}, line {line}: {cells} is not {ndim} numbers below 1e9; "
            "give millimetres with a decimal point."
        )
    return values


def write_points(
    path: str | os.PathLike[str], points_mm: Tensor, table: PointTable | None = None
) -> None:
    """Write points as CSV with 6 decimals (nanometres), atomically.

    Args:
        path: output CSV file.
        points_mm: ``(N, d)`` points in world RAS+ millimetres.
        table: header and further columns, as returned by `read_points`; default: coordinates only.

    Raises:
        InputError: the file cannot be written, or a point is not finite.
        ValueError: the number of rows of the table differs from the number of points.
    """
    count, ndim = points_mm.shape
    if table is None:
        table = PointTable(("x", "y", "z")[:ndim], ((),) * count)
    if len(table.others) != count:
        raise ValueError(f"the table has {len(table.others)} rows for {count} points.")
    bad = (~points_mm.isfinite().all(dim=1)).nonzero()
    if len(bad):
        raise InputError(
            f"cannot write {path}: point {int(bad[0]) + 1} of {count} is NaN or Inf after the "
            "transform; check the transform, and that the points are in millimetres."
        )
    with atomic_write(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.header)
        for point, others in zip(points_mm.tolist(), table.others, strict=True):
            writer.writerow([*(f"{value:.6f}" for value in point), *others])
