"""Markups of 3D Slicer as .mrk.json: points, lines, angles, curves, planes and ROIs.

Format: slicer.readthedocs.io, developer guide, Markups; the JSON schema of Slicer's module Markups.
Positions, normals and orientations are in the coordinate system that a markup states.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn3d.choices import CoordinateSystem
from stn3d.errors import InputError, shown, shown_text
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
from stn3d.io.points.mapping import Floats, PointMap
from stn3d.io.points.table import MOST_MB, coordinates_mm
from stn3d.io.texts import parse_json, read_text, without_surrogates

_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)
_FRAMES = ("baseToNode", "objectToNode")  # (4, 4) matrices into the file's space, row by row
_DROPPED = ("value", "controlPointValues")  # of a measurement; 3D Slicer computes them again


@dataclass(frozen=True, eq=False)
class Markups(NativeContent):
    """Content of a .mrk.json file, its positions in the coordinate systems of the file."""

    content: dict[str, Any]

    @property
    def points_mm(self) -> Floats:
        """``(n, 3)`` control points of all markups, world RAS+ millimetres."""
        points = [
            np.array(point["position"], np.float64) * _signs(markup)
            for markup in self.content["markups"]
            for point in markup["controlPoints"]
        ]
        return np.array(points).reshape(-1, 3)

    def mapped(self, mapping: PointMap) -> tuple[Markups, tuple[str, ...]]:
        """Markups with mapped positions, rotated orientations, and no values of measurements."""
        content = copy.deepcopy(self.content)
        notes: list[str] = []
        for markup in content["markups"]:
            _map_controls(markup, mapping)
            notes += _map_frame(markup, mapping)
            notes += _drop_measurements(markup)
        return Markups(content), tuple(dict.fromkeys(notes))


class MarkupsJson(GeometryFormat):
    """Markups of 3D Slicer, .mrk.json."""

    name = "mrk.json"
    kind = "points"
    suffixes = (".json",)

    def read(self, path: Path, options: ReadOptions) -> PointSet:
        text = read_text(path, "point file", "give points as CSV with the header x,y,z", MOST_MB)
        native = Markups(_checked(text, path))
        points = native.points_mm
        if not len(points):
            raise InputError(f"{path} holds no points; add at least one.")
        first = native.content["markups"][0]
        coordinates = _system(first) or "lps"
        return PointSet(
            path, self.name, coordinates, (), points, native, table=_table(native.content)
        )

    def write(self, path: Path, geometry: PointSet, options: WriteOptions) -> tuple[str, ...]:
        require_finite(geometry.points_mm, path)
        if isinstance(geometry.native, Markups):
            content = geometry.native.content
        else:
            content = _new_content(geometry, options.coordinates or "lps")
        with atomic_write(path) as part:
            part.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
        return ()


# -- reading --------------------------------------------------------------------------------------


def _checked(text: str, path: Path) -> dict[str, Any]:
    """The content of a file, checked as far as it is used."""
    try:
        content = parse_json(text)
        markups = content.get("markups") if isinstance(content, dict) else None
        if not isinstance(markups, list) or not markups:
            raise ValueError("no list of markups")
        points = [point for one in markups for point in one["controlPoints"]]
        if not all(isinstance(point, dict) for point in points):
            raise ValueError("a point is not a mapping")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a point list of 3D Slicer; save the points as .mrk.json in 3D Slicer, "
            "or give a CSV file."
        ) from error
    for markup in markups:
        _check_markup(markup, path)
    found: dict[str, Any] = content
    return found


def _check_markup(markup: dict[str, Any], path: Path) -> None:
    system, units = markup.get("coordinateSystem", "LPS"), markup.get("coordinateUnits")
    if units not in (None, "mm", ["mm"]):
        raise InputError(
            f"{path} is in {shown_text(units)}, not in mm; save the points in millimetres."
        )
    for point in markup["controlPoints"]:
        label = _label(point)
        if point.get("positionStatus", "defined") not in ("defined", "preview"):
            raise not_placed(label, path)
        if _system(markup) is None:
            raise no_system(path, system)
        position = point.get("position")
        if not isinstance(position, list) or len(position) != 3 or coordinates_mm(position) is None:
            raise no_position(label, path)
        point["position"] = coordinates_mm(position)
    for name, count in (("center", 3), ("normal", 3), ("orientation", 9), *_frame_sizes(markup)):
        if name in markup and _numbers(markup[name], count) is None:
            raise InputError(
                f"{path}: {name} of the {shown_text(markup.get('type', 'markup'))} is not {count} "
                "numbers; save it again in 3D Slicer."
            )


def _frame_sizes(markup: dict[str, Any]) -> Iterator[tuple[str, int]]:
    yield from ((name, 16) for name in _FRAMES if name in markup)


def _numbers(values: Any, count: int) -> list[float] | None:
    """A list of so many finite numbers, None if it is anything else."""
    return coordinates_mm(values) if isinstance(values, list) and len(values) == count else None


def _system(markup: dict[str, Any]) -> CoordinateSystem | None:
    system = markup.get("coordinateSystem", "LPS")
    known: dict[Any, CoordinateSystem] = {"LPS": "lps", "RAS": "ras", "0": "ras", "1": "lps"}
    return known.get(system) if isinstance(system, str) else None


def _signs(markup: dict[str, Any]) -> Floats:
    return FLIPS[_system(markup) or "lps"]


def _label(point: dict[str, Any]) -> str:
    label = point.get("label")
    label = label if isinstance(label, str) else "" if label is None else shown(label)
    return without_surrogates(label.strip())


def _table(content: dict[str, Any]) -> PointTable:
    """Labels and descriptions of all control points, for conversions."""
    points = [point for markup in content["markups"] for point in markup["controlPoints"]]
    columns = {"label": [_label(point) for point in points]}
    described = [without_surrogates(str(point.get("description") or "")) for point in points]
    if any(described):
        columns["description"] = described
    return PointTable(("x", "y", "z", *columns), tuple(zip(*columns.values(), strict=True)))


# -- mapping --------------------------------------------------------------------------------------


def _map_controls(markup: dict[str, Any], mapping: PointMap) -> None:
    """Map the control points; their orientations rotate with them."""
    points, signs = markup["controlPoints"], _signs(markup)
    positions = np.array([point["position"] for point in points]).reshape(-1, 3) * signs
    moved = mapping(positions).points_mm * signs
    for n, point in enumerate(points):
        point["position"] = moved[n].tolist()
        orientation = _numbers(point.get("orientation"), 9)
        if orientation is None:
            point.pop("orientation", None)
            continue
        point["orientation"] = _rotated(orientation, positions[n], signs, mapping)


def _rotated(orientation: list[float], at: Floats, signs: Floats, mapping: PointMap) -> list[float]:
    """An orientation, three axes as columns, after the rotation of the transform at a point."""
    rotation = mapping.rotations(at[None])[0] * signs[:, None] * signs
    turned: list[float] = (rotation @ np.reshape(orientation, (3, 3))).ravel().tolist()
    return turned


def _map_frame(markup: dict[str, Any], mapping: PointMap) -> list[str]:
    """Map the centre of a plane or an ROI, rotate its axes and scale its size."""
    if "center" not in markup and not any(name in markup for name in _FRAMES):
        return []
    signs, kind = _signs(markup), shown_text(markup.get("type", "markup"))
    centre = _centre(markup) * signs
    if "center" in markup:
        markup["center"] = (mapping(centre[None]).points_mm[0] * signs).tolist()
    if "normal" in markup:
        normal = np.array(markup["normal"], np.float64)[None] * signs
        markup["normal"] = (mapping.normals(centre[None], normal)[0] * signs).tolist()
    axes = np.eye(3)
    if "orientation" in markup:
        axes = np.reshape(markup["orientation"], (3, 3)) * signs[:, None]
        markup["orientation"] = _rotated(markup["orientation"], centre, signs, mapping)
    stretch = np.linalg.norm(mapping.jacobians(centre[None])[0] @ axes, axis=0)
    size = _numbers(markup.get("size"), 3)
    if size is not None:
        markup["size"] = (np.array(size) * stretch).tolist()
    for name in _FRAMES:
        if name in markup:
            markup[name] = _moved_frame(markup[name], signs, mapping)
    return [
        f"a {kind} keeps its shape: its centre is mapped, its axes are rotated and its size is "
        "scaled as the transform does at the centre"
    ]


def _moved_frame(matrix: list[float], signs: Floats, mapping: PointMap) -> list[float]:
    """A (4, 4) frame whose origin is mapped and whose axes rotate as the transform does there."""
    frame = np.reshape(np.array(matrix, np.float64), (4, 4))
    origin = frame[:3, 3] * signs
    axes = _rotated(frame[:3, :3].ravel().tolist(), origin, signs, mapping)
    frame[:3, :3] = np.reshape(axes, (3, 3))
    frame[:3, 3] = mapping(origin[None]).points_mm[0] * signs
    moved: list[float] = frame.ravel().tolist()
    return moved


def _centre(markup: dict[str, Any]) -> Floats:
    """Centre of a plane or an ROI, in the coordinate system of the markup."""
    if "center" in markup:
        return np.array(markup["center"], np.float64)
    for name in _FRAMES:
        if name in markup:
            return np.reshape(np.array(markup[name], np.float64), (4, 4))[:3, 3]
    points: NDArray[np.float64] = np.array([p["position"] for p in markup["controlPoints"]])
    return points.mean(axis=0) if len(points) else np.zeros(3)


def _drop_measurements(markup: dict[str, Any]) -> list[str]:
    """Remove the values of measurements, which no longer hold."""
    measurements = markup.get("measurements")
    if not isinstance(measurements, list) or not measurements:
        return []
    for one in measurements:
        for key in _DROPPED if isinstance(one, dict) else ():
            one.pop(key, None)
    return ["values of measurements are removed; 3D Slicer computes them again"]


# -- writing --------------------------------------------------------------------------------------


def _new_content(geometry: PointSet, coordinates: CoordinateSystem) -> dict[str, Any]:
    """A point list of points from another format."""
    table, count = geometry.table, len(geometry.points_mm)
    points = geometry.points_mm
    if points.shape[1] == 2:
        raise InputError(
            f"{geometry.path} holds 2D points, and markups of 3D Slicer are 3D; write CSV."
        )
    described = table.column("description") or table.column("desc") or ("",) * count
    labels = table.names or tuple(str(n + 1) for n in range(count))
    controls = [
        {
            "id": str(n + 1),
            "label": labels[n],
            "description": described[n],
            "position": point,
            "orientation": [-1.0, -0.0, -0.0, -0.0, -1.0, -0.0, 0.0, 0.0, 1.0],
            "selected": True,
            "locked": False,
            "visibility": True,
            "positionStatus": "defined",
        }
        for n, point in enumerate((points * FLIPS[coordinates]).tolist())
    ]
    markup = {
        "type": "Fiducial",
        "coordinateSystem": coordinates.upper(),
        "coordinateUnits": "mm",
        "controlPoints": controls,
    }
    return {"@schema": _SCHEMA, "markups": [markup]}


def not_placed(label: str, path: Path) -> InputError:
    """Error for a point without a position."""
    return InputError(f"{path}: point {shown(label)} is not placed; place it, or delete it.")


def no_position(label: str, path: Path) -> InputError:
    """Error for a point whose position is no point in space."""
    return InputError(
        f"{path}: the position of point {shown(label)} is not 3 numbers below 1e9; correct it."
    )


def no_system(path: Path, system: Any) -> InputError:
    """Error for a file in unknown coordinates."""
    return InputError(
        f"the coordinate system of {path} is neither RAS nor LPS (CoordinateSystem is "
        f"{shown_text(system) if system else 'missing'}); save the points again in 3D Slicer."
    )
