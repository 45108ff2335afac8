"""Points as CSV or TSV: a header line, then coordinates in millimetres and further columns.

The coordinates are the columns x, y and z, or r, a, s (RAS) or l, p, s (LPS) as in the tables of
3D Slicer, in any place.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stn3d.choices import CoordinateSystem
from stn3d.errors import InputError, shown_text
from stn3d.io.files import atomic_write
from stn3d.io.points.base import GeometryFormat, PointSet, PointTable, ReadOptions, WriteOptions
from stn3d.io.points.checks import FLIPS, require_finite
from stn3d.io.texts import csv_rows, read_text

MOST_MB = 1024
_MOST_MM = 1e9
_AXES: dict[tuple[str, ...], CoordinateSystem | None] = {
    ("x", "y", "z"): None,
    ("r", "a", "s"): "ras",
    ("l", "p", "s"): "lps",
    ("x", "y"): None,
}


class Table(GeometryFormat):
    """CSV, or TSV with tabs."""

    name = "csv"
    kind = "points"
    suffixes = (".csv", ".tsv")

    def read(self, path: Path, options: ReadOptions) -> PointSet:
        text = read_text(path, "point file", "give points as CSV with the header x,y,z", MOST_MB)
        lines, by = text.splitlines(), _separator(path)
        rows = [row for row in csv_rows(lines, path, by) if any(map(str.strip, row[1]))]
        header = tuple(cell.strip() for cell in rows[0][1]) if rows else ()
        axes, stated = _axes(header, path)
        points = [_coordinates(row, len(header), axes, path, line) for line, row in rows[1:]]
        if not points:
            raise InputError(f"{path} holds no points below its header line; add at least one.")
        taken = set(axes)
        others = tuple(
            tuple(cell for n, cell in enumerate(row) if n not in taken) for _, row in rows[1:]
        )
        coordinates = stated or options.coordinates or "ras"
        points_mm = np.array(points) * FLIPS[coordinates][: len(axes)]
        table = PointTable(header, others, axes if axes != tuple(range(len(axes))) else None)
        return PointSet(path, self.name, coordinates, (), points_mm, table=table)

    def write(self, path: Path, geometry: PointSet, options: WriteOptions) -> tuple[str, ...]:
        table, same = geometry.table, geometry.format == self.name
        own = geometry.coordinates if same else None
        coordinates = _axes(table.header, path)[1] or own or options.coordinates or "ras"
        write_table(path, geometry.points_mm * FLIPS[coordinates][: geometry.ndim], table)
        if coordinates == "lps" and not same:
            return (f"the coordinates in {path.name} are LPS",)
        return ()


def _separator(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","


def _axes(header: tuple[str, ...], path: Path) -> tuple[tuple[int, ...], CoordinateSystem | None]:
    """Positions of the coordinates among the columns, and the system that their names state."""
    names = [name.lower().removesuffix("_mm") for name in header]
    for axes, stated in _AXES.items():
        if all(names.count(axis) == 1 for axis in axes):
            return tuple(names.index(axis) for axis in axes), stated
    by = "tabs" if _separator(path) == "\t" else "commas"
    raise InputError(
        f"{path}, line 1: the header must name the columns x,y,z (or x,y in 2D), separated by "
        f"{by}; it is {shown_text(','.join(header)) or 'empty'}."
    )


def _coordinates(
    row: list[str], width: int, axes: tuple[int, ...], path: Path, line: int
) -> list[float]:
    """Coordinates of one row."""
    if len(row) != width:
        raise InputError(
            f"{path}, line {line}: {len(row)} columns, but the header has {width}; correct the row."
        )
    cells = [row[axis] for axis in axes]
    values = coordinates_mm(cells)
    if values is None:
        raise InputError(
            f"{path}, line {line}: {shown_text(','.join(cells))} is not {len(axes)} numbers below "
            "1e9; give millimetres with a decimal point."
        )
    return values


def write_table(path: Path, points: Any, table: PointTable) -> None:
    """Write points with 6 decimals (nanometres) and their further columns, atomically.

    Raises:
        InputError: the file cannot be written, or a point is not finite.
    """
    require_finite(points, path)
    positions = table.positions
    with atomic_write(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", delimiter=_separator(path))
        writer.writerow(table.header)
        for point, others in zip(points.tolist(), table.others, strict=True):
            cells = iter(others)
            values = dict(zip(positions, (f"{value:.6f}" for value in point), strict=True))
            writer.writerow(
                [values[n] if n in values else next(cells) for n in range(len(table.header))]
            )


def coordinates_mm(values: Sequence[Any]) -> list[float] | None:
    """Values as finite numbers below 1e9, which is 1000 km in millimetres; None if one is not."""
    try:
        if any(isinstance(x, bool) or (isinstance(x, str) and "_" in x) for x in values):
            return None
        found = [float(x) for x in values]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if all(abs(x) < _MOST_MM for x in found) else None
