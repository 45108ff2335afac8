"""Surfaces as Wavefront OBJ: text of vertices, normals and faces.

Format: paulbourke.net/dataformats/obj. The lines of vertices (v), normals (vn) and faces (f) are
read; all others, such as materials, groups and texture coordinates, are kept as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError, shown_text
from stn3d.io.files import atomic_write
from stn3d.io.points.base import GeometryFormat, ReadOptions, Surface, WriteOptions
from stn3d.io.points.checks import (
    FLIPS,
    require_coordinates,
    require_finite,
    stated_coordinates,
    unstated_note,
)
from stn3d.io.points.gifti import require_vertices
from stn3d.io.points.mapping import Floats
from stn3d.io.points.table import coordinates_mm
from stn3d.io.texts import read_text

_MOST_MB = 2048


@dataclass(frozen=True, eq=False)
class ObjContent:
    """Lines of a file, and which of its normals belong to which vertices.

    Args:
        lines: all lines.
        vertices: numbers of the lines of vertices.
        normals: numbers of the lines of normals.
        faces: numbers of the lines of faces and lines.
    """

    lines: tuple[str, ...]
    vertices: tuple[int, ...]
    normals: tuple[int, ...]
    faces: tuple[int, ...]


class Obj(GeometryFormat):
    """Wavefront OBJ."""

    name = "obj"
    kind = "surface"
    suffixes = (".obj",)

    def read(self, path: Path, options: ReadOptions) -> Surface:
        text = read_text(path, "surface", "give a text file", _MOST_MB)
        content = _content(text)
        points = _vectors(content, content.vertices, path)
        triangles, normal_vertices = _faces(content, len(points), path)
        require_vertices(triangles, len(points), path)
        vectors = _vectors(content, content.normals, path)
        stated = stated_coordinates([one for one in content.lines[:100] if one.startswith("#")])
        coordinates = stated or options.coordinates or "ras"
        assumed = stated is None and options.coordinates is None
        flip = FLIPS[coordinates]
        cells = None
        if len(vectors):  # each normal maps as at its vertex
            vertex_of_normal = np.clip(
                [normal_vertices.get(n, 0) for n in range(len(vectors))], 0, len(points) - 1
            )
            cells = points[vertex_of_normal] * flip, vectors * flip
        return Surface(
            path,
            self.name,
            coordinates,
            (unstated_note(path, coordinates),) if assumed else (),
            require_coordinates(points, path) * flip,
            content,
            triangles=triangles,
            cells=cells,
        )

    def write(self, path: Path, geometry: Surface, options: WriteOptions) -> tuple[str, ...]:
        require_finite(geometry.points_mm, path)
        content, coordinates = geometry.native, geometry.coordinates
        if not isinstance(content, ObjContent):
            coordinates = options.coordinates or "ras"
            lines = _new_lines(geometry, FLIPS[coordinates])
        else:
            lines = _moved_lines(content, geometry, FLIPS[coordinates])
        statement = f"# SPACE={coordinates.upper()}"
        if stated_coordinates([one for one in lines[:100] if one.startswith("#")]) is None:
            lines = [statement, *lines]
        with atomic_write(path) as part:
            part.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if geometry.values:
            return (f"{path.name} holds no values at vertices; these are dropped",)
        return ()


def _content(text: str) -> ObjContent:
    lines = tuple(text.splitlines())
    places: dict[str, list[int]] = {"v": [], "vn": [], "f": []}
    for n, line in enumerate(lines):
        key = line.split(maxsplit=1)[0] if line.strip() else ""
        if key in places:
            places[key].append(n)
    return ObjContent(lines, *(tuple(places[key]) for key in ("v", "vn", "f")))


def _vectors(content: ObjContent, places: tuple[int, ...], path: Path) -> Floats:
    """Three coordinates of each of some lines."""
    found = []
    for place in places:
        values = coordinates_mm(content.lines[place].split()[1:4])
        if values is None or len(values) != 3:
            line = shown_text(content.lines[place])
            raise InputError(f"{path}, line {place + 1}: {line} has not 3 coordinates below 1e9.")
        found.append(values)
    return np.array(found).reshape(-1, 3)


def _faces(content: ObjContent, count: int, path: Path) -> tuple[NDArray[np.int64], dict[int, int]]:
    """Triangles, and a vertex of each normal; polygons become fans."""
    triangles, normal_vertices = [], {}
    for place in content.faces:
        try:
            corners = [
                [int(one) if one else 0 for one in corner.split("/")]
                for corner in content.lines[place].split()[1:]
            ]
            vertices = [c[0] - 1 if c[0] > 0 else count + c[0] for c in corners]
        except (ValueError, IndexError) as error:
            line = shown_text(content.lines[place])
            raise InputError(f"{path}, line {place + 1}: {line} is not a face.") from error
        for vertex, corner in zip(vertices, corners, strict=True):
            if len(corner) > 2 and corner[2]:
                number = corner[2] - 1 if corner[2] > 0 else len(content.normals) + corner[2]
                normal_vertices[number] = vertex
        triangles += [(vertices[0], *vertices[n : n + 2]) for n in range(1, len(vertices) - 1)]
    if any(abs(vertex) > 2**62 for one in triangles for vertex in one):
        raise InputError(f"{path}: a triangle has a vertex that does not exist.")
    return np.array(triangles, np.int64).reshape(-1, 3), normal_vertices


def _moved_lines(content: ObjContent, geometry: Surface, flip: Floats) -> list[str]:
    """The lines with other coordinates; what follows them in a line, such as colours, is kept."""
    lines = list(content.lines)
    normals = geometry.cells[1] if geometry.cells is not None else np.empty((0, 3))
    for places, vectors in (
        (content.vertices, geometry.points_mm * flip),
        (content.normals, normals * flip),
    ):
        for place, vector in zip(places, vectors.tolist(), strict=True):
            words = lines[place].split()
            lines[place] = " ".join([words[0], *(f"{x:.6f}" for x in vector), *words[4:]])
    if geometry.reversed:
        for place in content.faces:
            key, *corners = lines[place].split()
            lines[place] = " ".join([key, *corners[::-1]])
    return lines


def _new_lines(geometry: Surface, flip: Floats) -> list[str]:
    """Lines of a surface from another format."""
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in (geometry.points_mm * flip).tolist()]
    corner = "{0}"
    if geometry.normals is not None:
        lines += [f"vn {x:.6f} {y:.6f} {z:.6f}" for x, y, z in (geometry.normals * flip).tolist()]
        corner = "{0}//{0}"
    faces = (geometry.triangles + 1).tolist()
    return lines + ["f " + " ".join(corner.format(n) for n in face) for face in faces]
