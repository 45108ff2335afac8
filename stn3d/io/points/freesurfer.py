"""FreeSurfer's surfaces, such as lh.white, by nibabel.

Their vertices are in the surface coordinates of a volume ("tkregister RAS"). Scanner coordinates
follow from the volume geometry at the end of the file: its axes and its centre, c_ras.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nibabel.freesurfer as fs
import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.files import atomic_write
from stn3d.io.points.base import GeometryFormat, ReadOptions, Surface, WriteOptions
from stn3d.io.points.checks import (
    damaged_is_one_sentence,
    require_coordinates,
    require_file,
    require_finite,
)
from stn3d.io.points.mapping import Floats

_NAME = re.compile(r"^[lr]h\.(?!.*\.(gii|vtk|vtp|stl|obj|ply|label|annot|mgh|mgz|csv|tsv)$)[\w.]+$")
_MAGIC = {b"\xff\xff\xfe": "triangles", b"\xff\xff\xff": "quads", b"\xff\xff\xfd": "quads"}
_NOT_ANATOMICAL = ("inflated", "sphere")
# Axes of FreeSurfer's conformed volumes, to which surface coordinates refer: the volume's columns
# lead to the left, its rows to inferior, its slices to anterior.
_CONFORMED = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


class FreeSurfer(GeometryFormat):
    """FreeSurfer's surfaces."""

    name = "freesurfer"
    kind = "surface"
    suffixes = ()

    def recognises(self, path: Path) -> bool:
        return bool(_NAME.match(path.name)) or _has_magic(path)

    def read(self, path: Path, options: ReadOptions) -> Surface:
        require_file(path, "surface")
        with damaged_is_one_sentence(path, "a FreeSurfer surface"):
            points, faces, volume, stamp = _read(path)
            triangles = np.asarray(faces, np.int64)
            vertices = require_coordinates(points, path)
        if triangles.size and not (triangles.min() >= 0 and triangles.max() < len(vertices)):
            raise InputError(f"{path}: a triangle has a vertex that does not exist.")
        notes: tuple[str, ...] = ()
        if not volume:
            notes = (f"{path.name} states no volume geometry; its volume is taken as centred at 0",)
        if any(word in path.name for word in _NOT_ANATOMICAL):
            notes += (f"{path.name} is no anatomical surface: its vertices are not in the image",)
        matrix = scanner_from_surface(volume, path)
        vertices = vertices @ matrix[:3, :3].T + matrix[:3, 3]
        native = (volume, stamp)
        return Surface(path, self.name, "ras", notes, vertices, native, triangles=triangles)

    def write(self, path: Path, geometry: Surface, options: WriteOptions) -> tuple[str, ...]:
        require_finite(geometry.points_mm, path)
        volume, stamp = geometry.native if geometry.format == self.name else ({}, "")
        if options.like is not None:
            volume = _volume_of(options.like)
        surface_from_scanner = np.linalg.inv(scanner_from_surface(volume, path))
        points = geometry.points_mm @ surface_from_scanner[:3, :3].T + surface_from_scanner[:3, 3]
        with atomic_write(path) as part:
            fs.write_geometry(
                str(part),
                points,
                geometry.triangles,
                create_stamp=stamp.split("\n")[0] or "created by stn3d",
                volume_info=volume or None,
            )
        notes: tuple[str, ...] = ()
        if geometry.values or geometry.normals is not None:
            notes = (f"{path.name} holds no normals and no values at vertices; these are dropped",)
        if options.like is None and volume:
            notes += (
                f"{path.name} keeps the volume geometry of {geometry.path.name}; --fixed or "
                "--moving IMAGE gives it that of the image it now belongs to",
            )
        return notes


def scanner_from_surface(volume: dict[str, Any], path: Path) -> Floats:
    """``(4, 4)`` matrix from surface coordinates to scanner RAS millimetres.

    Args:
        volume: axes ``xras``, ``yras``, ``zras`` and centre ``cras`` of the volume; without them,
            the identity.
        path: the file, for messages.

    Raises:
        InputError: the axes are not finite, or do not span space.
    """
    matrix = np.eye(4)
    if not volume:
        return matrix
    axes = np.array([volume[key] for key in ("xras", "yras", "zras")], np.float64).T
    centre = np.array(volume["cras"], np.float64)
    if not (np.isfinite(axes).all() and np.isfinite(centre).all()) or (
        abs(np.linalg.det(axes)) < 1e-6
    ):
        raise InputError(f"{path}: the volume geometry is invalid; write the surface again.")
    matrix[:3, :3], matrix[:3, 3] = axes @ np.linalg.inv(_CONFORMED), centre
    return matrix


def _volume_of(grid: Grid) -> dict[str, Any]:
    """Volume geometry of an image's grid."""
    matrix, shape = grid.world_from_index.numpy(), np.array(grid.shape)
    spacing = np.array(grid.spacing_mm)
    axes = matrix[:3, :3] / spacing
    return {
        "head": np.array([2, 0, 20], np.int32),
        "valid": "1  # volume info valid",
        "filename": "image",
        "volume": shape,
        "voxelsize": spacing,
        **{key: axes[:, n] for n, key in enumerate(("xras", "yras", "zras"))},
        "cras": matrix[:3, :3] @ (shape / 2) + matrix[:3, 3],
    }


def _has_magic(path: Path) -> bool:
    if not os.path.isfile(path):  # a pipe can be read only once
        return False
    try:
        with path.open("rb") as file:
            return file.read(3) in _MAGIC
    except OSError:
        return False


def _read(path: Path) -> tuple[Any, Any, dict[str, Any], str]:
    """Vertices, triangles, volume geometry (empty if it is not valid) and stamp of a file."""
    if _checked_kind(path) == "quads":
        return (*fs.read_geometry(str(path)), {}, "")
    points, faces, volume, stamp = fs.read_geometry(str(path), read_metadata=True, read_stamp=True)
    valid = str(volume.get("valid", "0")).split()[:1] == ["1"] and len(volume["cras"]) == 3
    return points, faces, volume if valid else {}, stamp


def _checked_kind(path: Path) -> str:
    """Triangles or quads; the counts must fit the file's size, before memory is allocated."""
    data = np.fromfile(path, np.uint8, 1 << 16).tobytes()
    kind = _MAGIC.get(data[:3])
    if kind is None:
        raise InputError(
            f"{path} is no FreeSurfer surface; give one such as lh.white, or a file whose "
            "extension states its format."
        )
    if kind == "triangles":
        end = data.index(b"\n\n", 3) + 2
        counts: NDArray[Any] = np.frombuffer(data, ">i4", 2, end)
        sizes = counts.astype(object) * 12
    else:
        counts = np.array([int.from_bytes(data[n : n + 3], "big") for n in (3, 6)])
        sizes = counts * np.array([6 if data[2] == 255 else 12, 12])
    if (counts < 0).any() or sizes.sum() > path.stat().st_size:
        raise InputError(f"{path} is shorter than its header states; copy it again.")
    return kind
