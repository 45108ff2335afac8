"""Point lists of 3D Slicer, .mrk.json and .fcsv, converted to RAS.

Formats: slicer.readthedocs.io, developer guide, Markups.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn3d.errors import InputError, shown, shown_text
from stn3d.io.geometry import lps_flip
from stn3d.io.texts import parse_json, without_surrogates

MARKUP_SUFFIXES = (".json", ".fcsv")
_SIGNS = {"RAS": [1.0, 1.0, 1.0], "LPS": lps_flip(3).diagonal()[:3].tolist()}
_BY_NUMBER = {"0": "RAS", "1": "LPS"}  # in older .fcsv files
_MOST_MM = 1e9
_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
_PLACED = "2"  # status of a placed point, in the column after those


@dataclass(frozen=True)
class Markup:
    """One point: its label and its position in world RAS+ millimetres."""

    label: str
    point_mm: list[float]


def parse_markups(text: str, path: Path) -> list[Markup]:
    """Points of a file written by 3D Slicer.

    Args:
        text: content of the file.
        path: path of the file; ``.fcsv`` is a table, any other extension JSON.

    Raises:
        InputError: the file is not a point list, its points are not in RAS or LPS millimetres, or a
            point is not placed.
    """
    if path.suffix.lower() == ".fcsv":
        return _from_table(text, path)
    try:
        lists = _lists(text)
        system, units = lists[0].get("coordinateSystem", "LPS"), lists[0].get("coordinateUnits")
        controls = [_checked_control(one) for one in lists[0]["controlPoints"]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{path} is not a point list of 3D Slicer; save the points as .mrk.json in 3D Slicer, "
            "or give a CSV file."
        ) from error
    if len(lists) > 1:
        raise InputError(f"{path} holds {len(lists)} point lists; save each in a separate file.")
    if units not in (None, "mm", ["mm"]):
        raise InputError(
            f"{path} is in {shown_text(units)}, not in mm; save the points in millimetres."
        )
    return [_from_control(one, system, path) for one in controls]


def _lists(text: str) -> list[dict[str, Any]]:
    """The point lists of a JSON text.

    Raises:
        ValueError: it is not JSON, or has another structure.
    """
    content = parse_json(text)
    lists = content.get("markups") if isinstance(content, dict) else None
    if not isinstance(lists, list) or not all(isinstance(one, dict) for one in lists):
        raise ValueError("no list of markups")
    return lists


def _checked_control(point: Any) -> dict[str, Any]:
    if not isinstance(point, dict):
        raise ValueError("a point is not a mapping")
    return point


def _from_control(point: dict[str, Any], system: Any, path: Path) -> Markup:
    label = point.get("label")
    label = label if isinstance(label, str) else "" if label is None else shown(label)
    if point.get("positionStatus", "defined") != "defined":
        raise _not_placed(label, path)
    position = point.get("position")
    return _in_ras(label, position if isinstance(position, list) else [], system, path)


def _from_table(text: str, path: Path) -> list[Markup]:
    """Comments with the coordinate system and the column names, then one row per point."""
    lines = text.splitlines()
    comments = dict(
        [part.strip() for part in line.lstrip("# ").split("=", 1)]
        for line in lines
        if line.startswith("#") and "=" in line
    )
    system = comments.get("CoordinateSystem", "")
    names = comments.get("columns", _COLUMNS).split(",")
    found = []
    for _, row in rows_of([one for one in lines if one.strip() and one[0] != "#"], path):
        cells = dict(zip(names, row, strict=False))
        label, status = cells.get("label", ""), row[len(names) : len(names) + 1]
        if status not in ([], [_PLACED]):
            raise _not_placed(label, path)
        point = [cells.get(axis) for axis in "xyz"]
        found.append(_in_ras(label, point, _BY_NUMBER.get(system, system), path))
    return found


def rows_of(lines: Iterable[str], path: Path) -> list[tuple[int, list[str]]]:
    """Rows of a CSV file with their line numbers.

    Raises:
        InputError: the file is damaged, for example by a quotation mark that is never closed.
    """
    reader = csv.reader(lines)
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}; check the quotation marks and the commas."
        ) from None


def coordinates_mm(values: Sequence[Any]) -> list[float] | None:
    """Values as finite numbers below 1e9, which is 1000 km in millimetres; None if one is not."""
    try:
        if any(isinstance(x, bool) or (isinstance(x, str) and "_" in x) for x in values):
            return None
        found = [float(x) for x in values]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if all(abs(x) < _MOST_MM for x in found) else None


def _in_ras(label: str, point: list[Any], system: Any, path: Path) -> Markup:
    signs = _SIGNS.get(system) if isinstance(system, str) else None
    if signs is None:
        raise InputError(
            f"the coordinate system of {path} is neither RAS nor LPS (CoordinateSystem is "
            f"{shown_text(system) if system else 'missing'}); save the points again in 3D Slicer."
        )
    values = coordinates_mm(point)
    if values is None or len(values) != len(signs):
        raise InputError(
            f"{path}: the position of point {shown(label)} is not 3 numbers below 1e9; correct it."
        )
    position = [sign * x for sign, x in zip(signs, values, strict=True)]
    return Markup(without_surrogates(label.strip()), position)


def _not_placed(label: str, path: Path) -> InputError:
    return InputError(f"{path}: point {shown(label)} is not placed; place it, or delete it.")
