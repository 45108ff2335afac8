"""All formats of points, surfaces and streamlines, found by a file's name."""

from __future__ import annotations

import os
from pathlib import Path

from stn3d.choices import CoordinateSystem, GeometryKind
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.files import check_output, is_stream
from stn3d.io.points.base import Geometry, GeometryFormat, ReadOptions, WriteOptions
from stn3d.io.points.fcsv import Fcsv
from stn3d.io.points.freesurfer import FreeSurfer
from stn3d.io.points.gifti import Gifti
from stn3d.io.points.markups import MarkupsJson
from stn3d.io.points.obj import Obj
from stn3d.io.points.table import Table
from stn3d.io.points.tck_trk import Tck, Trk
from stn3d.io.points.trx import Trx
from stn3d.io.points.vtk import VTK_FORMATS
from stn3d.io.texts import shown_path

FORMATS: tuple[GeometryFormat, ...] = (
    Table(),
    MarkupsJson(),
    Fcsv(),
    Gifti(),
    *VTK_FORMATS,
    Obj(),
    Tck(),
    Trk(),
    Trx(),
    FreeSurfer(),  # last: it opens files of other names
)
_PLURAL: dict[GeometryKind, str] = {
    "points": "points",
    "surface": "a surface",
    "streamlines": "streamlines",
}


def read_geometry(
    path: str | os.PathLike[str], coordinates: CoordinateSystem | None = None
) -> Geometry:
    """Read points, a surface or streamlines; the format follows from the name.

    Args:
        path: the file; CSV is assumed for an unknown extension.
        coordinates: coordinate system of a file that states none. Default: RAS.

    Raises:
        InputError: the file does not exist, is damaged, or holds another kind of data.
    """
    path = Path(path)
    return (_format_of(path) or FORMATS[0]).read(path, ReadOptions(coordinates))


def check_geometry_path(path: str | os.PathLike[str], geometry: Geometry) -> Path:
    """Check that a geometry can be written as a file, before any computation.

    Raises:
        InputError: the extension is unknown or of another kind of data, or the file cannot be
            written.
    """
    path = check_output(path)
    _output_format(path, geometry)
    return path


def write_geometry(
    path: str | os.PathLike[str],
    geometry: Geometry,
    coordinates: CoordinateSystem | None = None,
    like: Grid | None = None,
) -> tuple[str, ...]:
    """Write a geometry, atomically, in the format of the file's extension.

    Args:
        path: output file; a stream receives the format of the input.
        geometry: points, a surface or streamlines; in their own format everything is kept.
        coordinates: coordinate system of the file, where its format has a choice. Default: that of
            the input if it has the same format, else the format's own.
        like: grid of the image that the points belong to, for the headers of TRK, TRX and
            FreeSurfer's surfaces.

    Returns:
        Notes on what the format could not keep.

    Raises:
        InputError: see `check_geometry_path`; or a point is not finite.
    """
    path = Path(path)
    return _output_format(path, geometry).write(path, geometry, WriteOptions(coordinates, like))


def _format_of(path: Path) -> GeometryFormat | None:
    return next((one for one in FORMATS if one.recognises(path)), None)


def _output_format(path: Path, geometry: Geometry) -> GeometryFormat:
    own = next(one for one in FORMATS if one.name == geometry.format)
    if is_stream(path):
        return own
    found = _format_of(path)
    same_kind = [one for one in FORMATS if one.kind == geometry.kind]
    listed = ", ".join(dict.fromkeys(s for one in same_kind for s in one.suffixes))
    if found is None and not path.suffix and own.name == "freesurfer":
        return own
    if found is None:
        raise InputError(
            f"cannot write {shown_path(path)}: its extension is unknown; {_PLURAL[geometry.kind]} "
            f"can be written as {listed}."
        )
    if found.kind != geometry.kind:
        raise InputError(
            f"cannot write {path}: {geometry.path} holds {_PLURAL[geometry.kind]}, and "
            f"{found.name} holds {_PLURAL[found.kind]}; use one of {listed}."
        )
    return found
