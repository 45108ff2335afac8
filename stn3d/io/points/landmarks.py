"""The same landmarks in two images, matched by name or by order."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stn3d.errors import InputError, shown
from stn3d.io.points.base import PointSet, PointTable, Surface, WriteOptions
from stn3d.io.points.registry import read_geometry
from stn3d.io.points.table import Table


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
    """Read the points of a file.

    Args:
        path: CSV or TSV file with the columns x,y,z (3D) or x,y (2D); a point list of 3D Slicer,
            ``.mrk.json`` or ``.fcsv``; or a surface, whose vertices are read.

    Returns:
        ``(N, d)`` float64 points in world RAS+ millimetres, and the further columns.

    Raises:
        InputError: the file does not exist or holds no points, or a row is invalid; the message
            names the row.
    """
    found = read_geometry(path)
    if isinstance(found, PointSet):
        return torch.from_numpy(found.points_mm), found.table
    if isinstance(found, Surface):
        count = len(found.points_mm)
        return torch.from_numpy(found.points_mm), PointTable(("x", "y", "z"), ((),) * count)
    raise InputError(
        f"{path} holds streamlines, not single points; give points as CSV, .mrk.json or .fcsv."
    )


def write_points(
    path: str | os.PathLike[str], points_mm: Tensor, table: PointTable | None = None
) -> None:
    """Write points as CSV with 6 decimals (nanometres), atomically.

    Args:
        path: output CSV file, or TSV by its extension.
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
    path, points = Path(path), points_mm.detach().cpu().double().numpy()
    Table().write(path, PointSet(path, "", "ras", (), points, table=table), WriteOptions())
