"""GIFTI surfaces, .surf.gii, by nibabel.

Format: nitrc.org/projects/gifti. World coordinates of the vertices follow from, in this order: a
data space that is a world space; the matrix into one; the offset of the volume centre that
FreeSurfer stores (VolGeomC_R, _A, _S). Surfaces are written in world coordinates.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from stn3d.errors import InputError
from stn3d.io.files import atomic_write
from stn3d.io.points.base import GeometryFormat, ReadOptions, Surface, WriteOptions
from stn3d.io.points.checks import (
    damaged_is_one_sentence,
    require_coordinates,
    require_file,
    require_finite,
)
from stn3d.io.points.freesurfer import scanner_from_surface
from stn3d.io.points.mapping import Floats

_POINTS, _TRIANGLES = "NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE"
_UNKNOWN, _SCANNER = 0, 1  # codes of NIfTI's spaces; all but 0 are world spaces
_GEOMETRY = {"xras": "X", "yras": "Y", "zras": "Z", "cras": "C"}


class Gifti(GeometryFormat):
    """GIFTI surfaces."""

    name = "gifti"
    kind = "surface"
    suffixes = (".gii",)

    def read(self, path: Path, options: ReadOptions) -> Surface:
        require_file(path, "surface")
        with damaged_is_one_sentence(path, "a GIFTI surface"):
            image: Any = nib.gifti.GiftiImage.from_bytes(path.read_bytes())
            points, faces = image.get_arrays_from_intent(_POINTS), _faces(image)
            if not points:
                raise InputError(
                    f"{path} holds data without a surface (no {_POINTS}); give the .surf.gii file "
                    "that the data belong to."
                )
            if len(points) > 1:
                raise InputError(
                    f"{path} holds {len(points)} surfaces; save each in a separate file."
                )
            matrix, notes = _world_from_file(points[0], path)
            vertices = require_coordinates(points[0].data, path) @ matrix[:3, :3].T + matrix[:3, 3]
            values = _values(image, len(vertices))
        require_vertices(faces, len(vertices), path)
        return Surface(
            path,
            self.name,
            "ras",
            notes,
            vertices,
            image,
            triangles=faces,
            values=values,
        )

    def write(self, path: Path, geometry: Surface, options: WriteOptions) -> tuple[str, ...]:
        require_finite(geometry.points_mm, path)
        native = geometry.native
        if isinstance(native, nib.gifti.GiftiImage):
            image = copy.deepcopy(native)
            _update(image, geometry)
        else:
            image = _new_image(geometry)
        with atomic_write(path) as part:
            part.write_bytes(image.to_bytes())
        return ()


def _faces(image: Any) -> NDArray[np.int64]:
    arrays = image.get_arrays_from_intent(_TRIANGLES)
    faces = np.concatenate([one.data for one in arrays]) if arrays else np.empty((0, 3))
    return np.asarray(faces, np.int64).reshape(-1, 3)


def require_vertices(triangles: NDArray[np.int64], count: int, path: Path) -> None:
    """Make sure that triangles consist of the vertices there are.

    Raises:
        InputError: a triangle has a vertex beyond them.
    """
    if triangles.size and not (triangles.min() >= 0 and triangles.max() < count):
        raise InputError(
            f"{path}: a triangle has vertex {triangles.max()}, but there are {count} vertices; "
            "check that the file is complete."
        )


def _world_from_file(array: Any, path: Path) -> tuple[Floats, tuple[str, ...]]:
    """``(4, 4)`` matrix from the coordinates of a file to world coordinates, and notes."""
    system = array.coordsys
    space, target = (int(one) for one in (system.dataspace, system.xformspace))
    matrix = np.asarray(system.xform, np.float64)
    if space != _UNKNOWN:
        return np.eye(4), ()
    if target != _UNKNOWN and not np.array_equal(matrix, np.eye(4)):
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
            raise InputError(f"{path}: the matrix of its coordinate system is singular.")
        return matrix, (f"the matrix of {path.name} takes its coordinates to the scanner's space",)
    return _from_volume_geometry(dict(array.meta), path)


def _from_volume_geometry(meta: dict[str, str], path: Path) -> tuple[Floats, tuple[str, ...]]:
    """The matrix by the volume geometry that FreeSurfer stores."""
    try:
        volume = {
            key: [float(meta[f"VolGeom{letter}_{axis}"]) for axis in "RAS"]
            for key, letter in _GEOMETRY.items()
        }
    except (KeyError, ValueError):
        return np.eye(4), ()
    matrix = scanner_from_surface(volume, path)
    if np.array_equal(matrix, np.eye(4)):
        return matrix, ()
    centre = ", ".join(f"{value:g}" for value in volume["cras"])
    return matrix, (
        f"{path.name} is in FreeSurfer's surface coordinates; the volume's centre ({centre}) is "
        "added",
    )


def _values(image: Any, count: int) -> dict[str, NDArray[Any]]:
    """Values at the vertices that the file holds beside the surface, by name."""
    found = {}
    for n, array in enumerate(image.darrays):
        data = np.asarray(array.data)
        if array.intent not in _surface_codes() and data.shape[:1] == (count,):
            found[dict(array.meta).get("Name") or f"values{n}"] = data
    return found


def _surface_codes() -> tuple[Any, ...]:
    codes: Any = nib.nifti1.intent_codes
    return tuple(codes[name] for name in (_POINTS, _TRIANGLES))


def _update(image: Any, geometry: Surface) -> None:
    """Replace the coordinates of an image, which become world coordinates."""
    array = image.get_arrays_from_intent(_POINTS)[0]
    array.data = geometry.points_mm.astype(array.data.dtype)
    _set_system(array)
    for key in (f"VolGeomC_{axis}" for axis in "RAS"):
        if key in array.meta:
            array.meta[key] = "0.000000"
    if geometry.reversed:
        for faces in image.get_arrays_from_intent(_TRIANGLES):
            faces.data = np.ascontiguousarray(faces.data[:, ::-1])


def _set_system(array: Any) -> None:
    """The coordinates of an array are world coordinates, in the space that it names if any."""
    code = int(array.coordsys.dataspace) or _SCANNER
    array.coordsys = nib.gifti.GiftiCoordSystem(code, code, np.eye(4))


def _new_image(geometry: Surface) -> Any:
    """A GIFTI image of a surface from another format, with its values."""
    points = nib.gifti.GiftiDataArray(
        geometry.points_mm.astype(np.float32), _POINTS, "NIFTI_TYPE_FLOAT32"
    )
    points.coordsys = nib.gifti.GiftiCoordSystem(_SCANNER, _SCANNER, np.eye(4))
    triangles = geometry.triangles.astype(np.int32)
    arrays = [points, nib.gifti.GiftiDataArray(triangles, _TRIANGLES, "NIFTI_TYPE_INT32")]
    for name, values in geometry.values.items():
        whole = np.issubdtype(values.dtype, np.integer)
        dtype, code = (np.int32, "INT32") if whole else (np.float32, "FLOAT32")
        arrays.append(
            nib.gifti.GiftiDataArray(
                values.astype(dtype), "NIFTI_INTENT_NONE", f"NIFTI_TYPE_{code}", meta={"Name": name}
            )
        )
    return nib.gifti.GiftiImage(darrays=arrays)
