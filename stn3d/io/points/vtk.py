"""Surfaces as VTK (.vtk, .vtp), STL and PLY, by VTK in a process of its own.

These formats have no coordinate system of their own. 3D Slicer states one in a comment or a field,
``SPACE=LPS`` or ``SPACE=RAS``; so does stn3d.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from stn3d.errors import InputError
from stn3d.io import isolated
from stn3d.io.files import atomic_write
from stn3d.io.points.base import GeometryFormat, ReadOptions, Surface, WriteOptions
from stn3d.io.points.checks import (
    FLIPS,
    first_bytes,
    require_coordinates,
    require_file,
    require_finite,
    stated_coordinates,
    unstated_note,
)

_CHILD = Path(__file__).with_name("vtk_child.py")
_PLY_KNOWN = {
    *("x", "y", "z", "nx", "ny", "nz", "u", "v", "s", "t", "texture_u", "texture_v", "intensity"),
    *("red", "green", "blue", "alpha", "diffuse_red", "diffuse_green", "diffuse_blue"),
    *("vertex_indices", "vertex_index"),
}
_HEAD_BYTES = 20_000


@dataclass(frozen=True)
class VtkContent:
    """Where VTK finds the content of a surface again.

    Args:
        path: the file.
        format: its format as VTK knows it.
        is_ascii: whether its numbers are text.
        comments: what it says about itself.
    """

    path: Path
    format: str
    is_ascii: bool
    comments: tuple[str, ...]


class VtkSurface(GeometryFormat):
    """A format that VTK reads and writes.

    Args:
        name: name of the format, also its extension.
    """

    kind = "surface"

    def __init__(self, name: str) -> None:
        self.name, self.suffixes = name, (f".{name}",)  # type: ignore[misc]

    def read(self, path: Path, options: ReadOptions) -> Surface:
        require_file(path, "surface")
        head = first_bytes(path, _HEAD_BYTES)
        format, notes = _format_of(self.name, head, path), _ply_notes(self.name, head, path)
        with _process(path, path.stat().st_size) as process:
            answer = process.ask("read", {"path": str(path.resolve()), "format": format})
            arrays = {name: process.array(one) for name, one in answer["arrays"].items()}
        stated = stated_coordinates(answer["comments"])
        coordinates = stated or options.coordinates or "ras"
        if stated is None and options.coordinates is None:
            notes += (unstated_note(path, coordinates),)
        notes += tuple(f"the vectors {name} are not rotated" for name in answer["vectors"])
        flip = FLIPS[coordinates]
        cells = None
        if "cell_normals" in arrays:
            cells = arrays["cell_centres"] * flip, arrays["cell_normals"] * flip
        return Surface(
            path,
            self.name,
            coordinates,
            notes,
            require_coordinates(arrays["points"], path) * flip,
            VtkContent(path.resolve(), format, _is_ascii(format, head), tuple(answer["comments"])),
            triangles=arrays["triangles"],
            normals=arrays["normals"] * flip if "normals" in arrays else None,
            cells=cells,
            values={
                name.removeprefix("value "): array
                for name, array in arrays.items()
                if name.startswith("value ")
            },
        )

    def write(self, path: Path, geometry: Surface, options: WriteOptions) -> tuple[str, ...]:
        require_finite(geometry.points_mm, path)
        native = geometry.native if isinstance(geometry.native, VtkContent) else None
        same = geometry.format == self.name
        coordinates = options.coordinates or "ras"
        if native is not None:
            coordinates = geometry.coordinates
        with atomic_write(path) as part, tempfile.TemporaryDirectory(prefix="stn3d-") as folder:
            size = geometry.points_mm.nbytes + geometry.triangles.nbytes
            size = max(size, native.path.stat().st_size if native else 0)
            names = _save_arrays(Path(folder), geometry, FLIPS[coordinates], native is None)
            request = {
                "source": native and {"path": str(native.path), "format": native.format},
                "out": str(part.resolve()),
                "format": self.name,
                "space": coordinates.upper(),
                "comments": list(native.comments) if native and same else [],
                "ascii": bool(native and native.is_ascii),
                "reversed": geometry.reversed,
                "values": names,
                "folder": folder,
            }
            with _process(geometry.path, size) as process:
                process.ask("write", request)
        return self._notes(path, geometry)

    def _notes(self, path: Path, geometry: Surface) -> tuple[str, ...]:
        if geometry.values and self.name == "stl":
            return (f"{path.name} holds no values at vertices; these are dropped",)
        if self.name == "ply" and set(geometry.values) - {"RGB", "RGBA", "TCoords"}:
            return (f"of the values at vertices, {path.name} keeps the colours",)
        return ()


VTK_FORMATS = tuple(VtkSurface(name) for name in ("vtk", "vtp", "stl", "ply"))


def _save_arrays(folder: Path, geometry: Surface, flip: Any, is_new: bool) -> list[str]:
    """Save what changes, or everything of a new surface; returns the names of the values."""
    np.save(folder / "points.npy", geometry.points_mm * flip)
    if geometry.normals is not None:
        np.save(folder / "normals.npy", geometry.normals * flip)
    if geometry.cells is not None:
        np.save(folder / "cell_normals.npy", geometry.cells[1] * flip)
    if not is_new:
        return []
    np.save(folder / "triangles.npy", geometry.triangles)
    for n, values in enumerate(geometry.values.values()):
        np.save(folder / f"value{n}.npy", values)
    return list(geometry.values)


@contextmanager
def _process(path: Path, file_bytes: int) -> Iterator[isolated.Reader]:
    if find_spec("vtkmodules") is None:
        raise InputError(
            f"{path} needs the package vtk; install it with: pip install 'stn3d[surfaces]'"
        )
    what = "a surface", "write it again with the program that made it"
    with isolated.reader(str(path), file_bytes, _CHILD, what) as process:
        yield process


def _format_of(name: str, head: bytes, path: Path) -> str:
    """The format of a file by its content; a .vtk file may hold XML.

    Raises:
        InputError: the file holds no surface.
    """
    if name != "vtk":
        return name
    if head.lstrip().startswith((b"<?xml", b"<VTKFile")):
        return "vtp"
    kind = next((r for r in head.split(b"\n")[2:8] if r.upper().startswith(b"DATASET")), b"")
    words = kind.decode("ascii", "replace").split()
    if len(words) > 1 and words[1].upper() != "POLYDATA":
        raise InputError(
            f"{path} holds {words[1].lower()[:40]}, not a surface (POLYDATA); extract its surface "
            "first, for example with ParaView."
        )
    return "vtk"


def _is_ascii(format: str, head: bytes) -> bool:
    if format == "stl":
        return head.lstrip()[:5].lower() == b"solid" and b"facet" in head
    if format == "ply":
        return b"format ascii" in head
    return format == "vtk" and head.split(b"\n")[2:3] == [b"ASCII"]


def _ply_notes(name: str, head: bytes, path: Path) -> tuple[str, ...]:
    """A note on the properties that VTK does not keep."""
    if name != "ply":
        return ()
    header = head.partition(b"end_header")[0].decode("ascii", "replace").splitlines()
    properties = [line.split()[-1] for line in header if line.startswith("property ")]
    lost = [one for one in dict.fromkeys(properties) if one not in _PLY_KNOWN]
    if not lost:
        return ()
    return (f"the properties {', '.join(lost[:10])} of {path.name} are not kept",)
