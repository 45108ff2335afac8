"""Point lists of 3D Slicer's older format .fcsv.

A table below comments that state the coordinate system and the columns; see the documentation of
Slicer 4.11, module Markups.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stn3d.choices import CoordinateSystem
from stn3d.errors import InputError
from stn3d.io.files import atomic_write
from stn3d.io.points.base import (
    GeometryFormat,
    NativeContent,
    PointSet,
    PointTable,
    ReadOptions,
    WriteOptions,
)
from stn3d.io.points.checks import FLIPS, require_finite
from stn3d.io.points.mapping import PointMap
from stn3d.io.points.markups import no_position, no_system, not_placed
from stn3d.io.points.table import MOST_MB, coordinates_mm
from stn3d.io.texts import csv_rows, read_text

_SYSTEMS: dict[str, CoordinateSystem] = {"0": "ras", "1": "lps", "RAS": "ras", "LPS": "lps"}
_COLUMNS = ("id", "x", "y", "z", "ow", "ox", "oy", "oz", "vis", "sel", "lock", "label", "desc",
            "associatedNodeID")  # fmt: skip
_QUATERNION = ("ow", "ox", "oy", "oz")
_UPRIGHT = ("0", "0", "0", "1")  # as 3D Slicer writes it
_PLACED = "2"  # status of a placed point, in the column after those


@dataclass(frozen=True, eq=False)
class FcsvRows(NativeContent):
    """Comments, names of the columns, and the cells of each point."""

    comments: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def mapped(self, mapping: PointMap) -> tuple[FcsvRows, tuple[str, ...]]:
        """The same rows; orientations are reset."""
        places = [self.names.index(name) for name in _QUATERNION if name in self.names]
        rows, reset = [], 0
        for row in self.rows:
            cells = list(row)
            if len(places) == 4 and _is_rotated([cells[n : n + 1] for n in places]):
                reset += 1
                for n, value in zip(places, _UPRIGHT, strict=True):
                    cells[n] = value
            rows.append(tuple(cells))
        notes = (f"orientations of {reset} points are reset",) if reset else ()
        return FcsvRows(self.comments, self.names, tuple(rows)), notes


def _is_rotated(quaternion: list[list[str]]) -> bool:
    """Whether a quaternion is another one than the identity, in either order of its components."""
    values = coordinates_mm([cell for cells in quaternion for cell in cells]) or []
    return len(values) == 4 and values not in ([0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0])


class Fcsv(GeometryFormat):
    """Point lists of 3D Slicer, .fcsv."""

    name = "fcsv"
    kind = "points"
    suffixes = (".fcsv",)

    def read(self, path: Path, options: ReadOptions) -> PointSet:
        text = read_text(path, "point file", "give points as CSV with the header x,y,z", MOST_MB)
        lines = [line for line in text.splitlines() if line.strip()]
        comments = tuple(line for line in lines if line[0] == "#")
        stated = dict(
            [part.strip() for part in line.lstrip("# ").split("=", 1)]
            for line in comments
            if "=" in line
        )
        names = tuple(name.strip() for name in stated.get("columns", ",".join(_COLUMNS)).split(","))
        rows = tuple(tuple(r) for _, r in csv_rows([one for one in lines if one[0] != "#"], path))
        if not rows:
            raise InputError(f"{path} holds no points; add at least one.")
        system = stated.get("CoordinateSystem", "")
        if system not in _SYSTEMS:
            raise no_system(path, system)
        points = np.array([_position(row, names, path) for row in rows])
        coordinates = _SYSTEMS[system]
        native = FcsvRows(comments, names, rows)
        flipped = points * FLIPS[coordinates]
        return PointSet(path, self.name, coordinates, (), flipped, native, table=_table(native))

    def write(self, path: Path, geometry: PointSet, options: WriteOptions) -> tuple[str, ...]:
        points = geometry.points_mm
        require_finite(points, path)
        native, coordinates = geometry.native, geometry.coordinates
        if not isinstance(native, FcsvRows):
            coordinates = options.coordinates or "lps"
            native = _new_rows(geometry, coordinates)
        places = [native.names.index(axis) for axis in "xyz"]
        with atomic_write(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            file.writelines(f"{comment}\n" for comment in native.comments)
            writer = csv.writer(file, lineterminator="\n")
            for row, point in zip(native.rows, (points * FLIPS[coordinates]).tolist(), strict=True):
                cells = list(row)
                for place, value in zip(places, point, strict=True):
                    cells[place] = f"{value:.6f}"
                writer.writerow(cells)
        return ()


def _position(row: tuple[str, ...], names: tuple[str, ...], path: Path) -> list[float]:
    cells = dict(zip(names, row, strict=False))
    label, status = cells.get("label", ""), row[len(names) : len(names) + 1]
    if status not in ((), (_PLACED,)):
        raise not_placed(label, path)
    values = coordinates_mm([cells.get(axis) for axis in "xyz"])
    if values is None:
        raise no_position(label, path)
    return values


def _table(native: FcsvRows) -> PointTable:
    """Labels and descriptions, for conversions."""
    cells = [dict(zip(native.names, row, strict=False)) for row in native.rows]
    columns = {"label": [one.get("label", "").strip() for one in cells]}
    described = [one.get("desc", "").strip() for one in cells]
    if any(described):
        columns["description"] = described
    return PointTable(("x", "y", "z", *columns), tuple(zip(*columns.values(), strict=True)))


def _new_rows(geometry: PointSet, coordinates: CoordinateSystem) -> FcsvRows:
    """Rows for points of another format."""
    table, count = geometry.table, len(geometry.points_mm)
    if geometry.ndim == 2:
        raise InputError(
            f"{geometry.path} holds 2D points, and markups of 3D Slicer are 3D; write CSV."
        )
    described = table.column("description") or table.column("desc") or ("",) * count
    labels = table.names or tuple(str(n + 1) for n in range(count))
    comments = (
        "# Markups fiducial file version = 4.11",
        f"# CoordinateSystem = {coordinates.upper()}",
        f"# columns = {','.join(_COLUMNS)}",
    )
    rows = tuple(
        (str(n + 1), "", "", "", *_UPRIGHT, "1", "1", "0", labels[n], described[n], "", "2", "0")
        for n in range(count)
    )
    return FcsvRows(comments, _COLUMNS, rows)
