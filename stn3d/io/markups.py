"""Point lists of 3D Slicer, .mrk.json and .fcsv, converted to RAS.

Formats: slicer.readthedocs.io, developer guide, Markups.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stn3d.errors import InputError
from stn3d.io.geometry import lps_flip

MARKUP_SUFFIXES = (".json", ".fcsv")
_SIGNS = {"RAS": [1.0, 1.0, 1.0], "LPS": lps_flip(3).diagonal()[:3].tolist()}
_BY_NUMBER = {"0": "RAS", "1": "LPS"}  # in older .fcsv files
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
        nodes = json.loads(text)["markups"]
        system, units = nodes[0].get("coordinateSystem", "LPS"), nodes[0].get("coordinateUnits")
        found = [_from_control(one, path) for one in nodes[0]["controlPoints"]]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is not a point list of 3D Slicer; save the points as .mrk.json in 3D Slicer, "
            "or give a CSV file."
        ) from error
    if len(nodes) > 1:
        raise InputError(f"{path} holds {len(nodes)} point lists; save each in a separate file.")
    if units is not None and set([units] if isinstance(units, str) else units) != {"mm"}:
        raise InputError(f"{path} is in {units}, not in mm; save the points in millimetres.")
    return [_in_ras(label, point, system, path) for label, point in found]


def _from_control(point: dict[str, Any], path: Path) -> tuple[str, list[Any]]:
    label = str(point.get("label", ""))
    if point.get("positionStatus", "defined") != "defined":
        raise _not_placed(label, path)
    return label, point["position"]


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
    for row in csv.reader(line for line in lines if line.strip() and not line.startswith("#")):
        cells = dict(zip(names, row, strict=False))
        label, status = cells.get("label", ""), row[len(names) : len(names) + 1]
        if status not in ([], [_PLACED]):
            raise _not_placed(label, path)
        point = [cells.get(axis) for axis in "xyz"]
        found.append(_in_ras(label, point, _BY_NUMBER.get(system, system), path))
    return found


def _in_ras(label: str, point: list[Any], system: str, path: Path) -> Markup:
    if system not in _SIGNS:
        raise InputError(
            f"the coordinate system of {path} is neither RAS nor LPS (CoordinateSystem is "
            f"{system or 'missing'}); save the points again in 3D Slicer."
        )
    try:
        values = [sign * float(x) for sign, x in zip(_SIGNS[system], point, strict=True)]
    except (TypeError, ValueError):
        values = [math.nan]
    if not all(math.isfinite(value) for value in values):
        raise InputError(f"{path}: the position of point {label!r} is not 3 numbers; correct it.")
    return Markup(label.strip(), values)


def _not_placed(label: str, path: Path) -> InputError:
    return InputError(f"{path}: point {label!r} is not placed; place it, or delete it.")
