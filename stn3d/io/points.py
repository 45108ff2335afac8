"""Points as CSV: a header line, then x, y[, z] in world RAS+ mm; other columns are kept."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.io.files import whole


@dataclass(frozen=True)
class PointTable:
    """What a file of points holds besides the points.

    Args:
        header: the names of all columns, coordinates first.
        others: for each point its further columns, as text.
    """

    header: tuple[str, ...]
    others: tuple[tuple[str, ...], ...]


def read_points(path: str | os.PathLike[str]) -> tuple[Tensor, PointTable]:
    """Read points.

    Args:
        path: comma-separated text; its header line begins with x,y,z (3D) or x,y (2D).

    Returns:
        ``(N, d)`` float64 points in world RAS+ millimetres, and the rest of the table.

    Raises:
        InputError: the file is missing or no such table, or a row is bad; the message names it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(
            f"there is no file of points {path} to read ({error.strerror}); check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text; give points as CSV with a line x,y,z.") from error
    reader = csv.reader(text.splitlines())
    rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    header = tuple(cell.strip() for cell in rows[0][1]) if rows else ()
    ndim = _count_coordinates(header, path)
    points = [_coordinates(row, len(header), ndim, path, line) for line, row in rows[1:]]
    if not points:
        raise InputError(f"{path} holds no points below its header line; add some.")
    others = tuple(tuple(row[ndim:]) for _, row in rows[1:])
    return torch.tensor(points, dtype=torch.float64), PointTable(header, others)


def _count_coordinates(header: tuple[str, ...], path: Path) -> int:
    """2 or 3, by the first names of the header line."""
    names = [name.lower().removesuffix("_mm") for name in header[:3]]
    if names[:2] != ["x", "y"]:
        raise InputError(
            f"{path}, line 1: the header must begin with x,y,z (or x,y in 2D), separated by "
            f"commas; it is {','.join(header) or 'empty'}."
        )
    return 3 if names[2:] == ["z"] else 2


def _coordinates(row: list[str], width: int, ndim: int, path: Path, line: int) -> list[float]:
    """The coordinates of one row."""
    if len(row) != width:
        raise InputError(
            f"{path}, line {line}: {len(row)} columns where the header has {width}; mend the row."
        )
    try:
        values = [float(cell) for cell in row[:ndim]]
    except ValueError:
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        raise InputError(
            f"{path}, line {line}: {','.join(row[:ndim])} is not {ndim} numbers; "
            "give millimetres with a decimal point."
        )
    return values


def write_points(
    path: str | os.PathLike[str], points_mm: Tensor, table: PointTable | None = None
) -> None:
    """Write points to a thousandth of a micrometre, whole or not at all.

    Args:
        path: the CSV file.
        points_mm: ``(N, d)`` in world RAS+ millimetres.
        table: header and further columns, as `read_points` gave them; by default only coordinates.

    Raises:
        InputError: the file cannot be written here.
        ValueError: the table is of other points.
    """
    count, ndim = points_mm.shape
    if table is None:
        table = PointTable(("x", "y", "z")[:ndim], ((),) * count)
    if len(table.others) != count:
        raise ValueError(f"{count} points do not fit a table of {len(table.others)}.")
    with whole(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.header)
        for point, others in zip(points_mm.tolist(), table.others, strict=True):
            writer.writerow([*(f"{value:.6f}" for value in point), *others])
