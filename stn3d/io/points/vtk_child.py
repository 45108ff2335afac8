"""Reads and writes surfaces with VTK in a process of its own; `stn3d.io.isolated` starts it.

VTK's readers can crash on damaged files. It runs as a script and imports nothing slow of stn3d.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
from vtkmodules.vtkCommonCore import (
    vtkOutputWindow,
    vtkPoints,
    vtkStringArray,
    vtkStringOutputWindow,
)
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
from vtkmodules.vtkFiltersCore import vtkCellCenters, vtkReverseSense, vtkTriangleFilter
from vtkmodules.vtkIOGeometry import vtkSTLReader, vtkSTLWriter
from vtkmodules.vtkIOLegacy import vtkPolyDataReader, vtkPolyDataWriter
from vtkmodules.vtkIOPLY import vtkPLYReader, vtkPLYWriter
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader, vtkXMLPolyDataWriter

from stn3d.child_process import Answer, RefusedError, serve

_READERS: dict[str, Any] = {
    "vtk": vtkPolyDataReader,
    "vtp": vtkXMLPolyDataReader,
    "stl": vtkSTLReader,
    "ply": vtkPLYReader,
}
_ATTRIBUTES = "Scalars", "Vectors", "Normals", "Tensors", "TCoords", "Fields", "ColorScalars"
_SPACE = "SPACE"  # name of 3D Slicer's field, and of its comment
_LEGACY_VERSION = 42  # of files that programs before VTK 9 can read


def read(request: dict[str, str]) -> Answer:
    """Content of a surface: points, normals, triangles, values, comments."""
    reader, surface = _read(request["path"], request["format"])
    arrays = {"points": vtk_to_numpy(surface.GetPoints().GetData())}
    normals = surface.GetPointData().GetNormals()
    if normals is not None:
        arrays["normals"] = vtk_to_numpy(normals)
    if surface.GetCellData().GetNormals() is not None:
        arrays["cell_normals"] = vtk_to_numpy(surface.GetCellData().GetNormals())
        arrays["cell_centres"] = _centres(surface)
    arrays["triangles"] = _triangles(surface)
    values = {
        f"value {name}": array
        for name, array in _arrays(surface.GetPointData()).items()
        if normals is None or name != normals.GetName()
    }
    arrays |= {name: array for name, array in values.items() if array.dtype.kind in "iuf"}
    described = {
        name: {"shape": array.shape, "dtype": array.dtype.str} for name, array in arrays.items()
    }
    vectors = [_vectors_name(data) for data in (surface.GetPointData(), surface.GetCellData())]
    return {
        "arrays": described,
        "comments": _comments(reader, surface, request["format"]),
        "vectors": [name for name in vectors if name is not None],
    }, list(arrays.values())


def write(request: dict[str, Any]) -> Answer:
    """Write a surface: that of a file with other coordinates, or a new one."""
    folder = Path(request["folder"])
    arrays = {path.stem: np.load(path, allow_pickle=False) for path in folder.glob("*.npy")}
    reader, source = None, request["source"]
    if source is None:
        surface = _new_surface(arrays, request["values"])
    else:
        reader, surface = _read(source["path"], source["format"])
        if surface.GetNumberOfPoints() != len(arrays["points"]):
            raise RefusedError("it has changed")
        _replace(surface, arrays)
    if request["reversed"] and source is not None:
        surface = _reversed(surface)
    _state(surface, request["space"])
    _write(surface, request, reader)
    return {}, []


def _read(path: str, format: str) -> tuple[Any, Any]:
    """The reader and its surface.

    Raises:
        RefusedError: the reader reports an error, or the surface is empty.
    """
    errors = vtkStringOutputWindow()
    vtkOutputWindow.SetInstance(errors)
    reader = _READERS[format]()
    reader.SetFileName(path)
    if format == "vtk":
        for name in _ATTRIBUTES:
            getattr(reader, f"ReadAll{name}On")()
    reader.Update()
    surface = reader.GetOutput()
    if "ERR" in errors.GetOutput().upper() or reader.GetErrorCode():
        raise RefusedError("it is damaged")
    if surface is None or not surface.GetNumberOfPoints():
        raise RefusedError("it holds no points")
    return reader, surface


def _arrays(data: Any) -> dict[str, Any]:
    """Numeric arrays of point or cell data by name."""
    found = {}
    for n in range(data.GetNumberOfArrays()):
        array = data.GetArray(n)
        if array is not None and array.GetDataType() > 1:  # no bits
            found[array.GetName() or f"values{n}"] = vtk_to_numpy(array)
    return found


def _vectors_name(data: Any) -> str | None:
    return data.GetVectors().GetName() if data.GetVectors() is not None else None


def _centres(surface: Any) -> Any:
    centres = vtkCellCenters()
    centres.SetInputData(surface)
    centres.Update()
    return vtk_to_numpy(centres.GetOutput().GetPoints().GetData()).astype(np.float64)


def _triangles(surface: Any) -> Any:
    triangles = vtkTriangleFilter()
    triangles.SetInputData(surface)
    triangles.PassLinesOff()
    triangles.PassVertsOff()
    triangles.Update()
    cells = triangles.GetOutput().GetPolys().GetConnectivityArray()
    count = triangles.GetOutput().GetNumberOfPolys()
    found = vtk_to_numpy(cells) if count else np.empty(0)
    return found[: 3 * count].astype(np.int64).reshape(-1, 3)


def _comments(reader: Any, surface: Any, format: str) -> list[str]:
    """What the file says about itself, with the space that 3D Slicer states."""
    found = []
    if format in ("vtk", "stl") and reader.GetHeader():
        found.append(reader.GetHeader())
    if format == "ply":
        comments = reader.GetComments()
        found += [comments.GetValue(n) for n in range(comments.GetNumberOfValues())]
    space = surface.GetFieldData().GetAbstractArray(_SPACE)
    if space is not None and space.GetNumberOfValues():
        found.append(f"{_SPACE}={space.GetVariantValue(0).ToString()}")
    return [comment.encode("ascii", "replace").decode() for comment in found]


def _new_surface(arrays: dict[str, Any], names: list[str]) -> Any:
    surface, points = vtkPolyData(), vtkPoints()
    points.SetData(_to_vtk(arrays["points"].astype(np.float32)))
    surface.SetPoints(points)
    triangles = arrays["triangles"].astype(np.int64)
    cells = vtkCellArray()
    counted = np.concatenate([np.full((len(triangles), 1), 3), triangles], axis=1)
    cells.ImportLegacyFormat(numpy_to_vtkIdTypeArray(np.ascontiguousarray(counted.ravel()), deep=1))
    surface.SetPolys(cells)
    if "normals" in arrays:
        normals = _to_vtk(arrays["normals"].astype(np.float32))
        normals.SetName("Normals")
        surface.GetPointData().SetNormals(normals)
    for n, name in enumerate(names):
        array = _to_vtk(arrays[f"value{n}"])
        array.SetName(name)
        surface.GetPointData().AddArray(array)
    return surface


def _to_vtk(array: Any) -> Any:
    return numpy_to_vtk(np.ascontiguousarray(array), deep=1)


def _replace(surface: Any, arrays: dict[str, Any]) -> None:
    """Other coordinates and normals, in the types that the surface has."""
    dtype = vtk_to_numpy(surface.GetPoints().GetData()).dtype
    points = vtkPoints()
    points.SetData(_to_vtk(arrays["points"].astype(dtype if dtype.kind == "f" else np.float32)))
    surface.SetPoints(points)
    for data, name in (
        (surface.GetPointData(), "normals"),
        (surface.GetCellData(), "cell_normals"),
    ):
        old = data.GetNormals()
        if old is not None and name in arrays:
            new = _to_vtk(arrays[name].astype(np.float32))
            new.SetName(old.GetName())
            data.SetNormals(new)


def _reversed(surface: Any) -> Any:
    """The surface with its cells wound the other way round."""
    reverse = vtkReverseSense()
    reverse.SetInputData(surface)
    reverse.ReverseCellsOn()
    reverse.ReverseNormalsOff()
    reverse.Update()
    return reverse.GetOutput()


def _state(surface: Any, space: str) -> None:
    """State the space in 3D Slicer's field."""
    array = vtkStringArray()
    array.SetName(_SPACE)
    array.InsertNextValue(space)
    surface.GetFieldData().RemoveArray(_SPACE)
    surface.GetFieldData().AddArray(array)


def _write(surface: Any, request: dict[str, Any], reader: Any) -> None:
    format, statement = request["format"], f"{_SPACE}={request['space']}"
    writer = _WRITERS[format](surface, request, reader, statement)
    writer.SetInputData(surface)
    writer.SetFileName(request["out"])
    if not writer.Write():
        raise RefusedError("it cannot be written")


def _legacy_writer(surface: Any, request: dict[str, Any], reader: Any, statement: str) -> Any:
    writer = vtkPolyDataWriter()
    surface.GetFieldData().RemoveArray(_SPACE)  # the header states it
    writer.SetHeader(_with_statement(request["comments"][:1], statement, 200)[0])
    writer.SetFileType(1 if request["ascii"] else 2)
    if reader is None or getattr(reader, "GetFileMajorVersion", int)() < 5:
        writer.SetFileVersion(_LEGACY_VERSION)
    return writer


def _xml_writer(*_: Any) -> Any:
    return vtkXMLPolyDataWriter()


def _stl_writer(surface: Any, request: dict[str, Any], _: Any, statement: str) -> Any:
    writer = vtkSTLWriter()
    writer.SetHeader(_with_statement(request["comments"][:1], statement, 79)[0])
    writer.SetFileType(1 if request["ascii"] else 2)
    return writer


def _ply_writer(surface: Any, request: dict[str, Any], _: Any, statement: str) -> Any:
    writer = vtkPLYWriter()
    writer.SetFileType(1 if request["ascii"] else 2)
    for comment in _with_statement(request["comments"], statement, 1000):
        if comment != "VTK generated PLY File":  # the writer adds it
            writer.AddComment(comment)
    for data in (surface.GetPointData(), surface.GetCellData()):
        for name in ("RGBA", "RGB"):
            if data.GetArray(name) is not None:
                writer.SetArrayName(name)
                writer.SetEnableAlpha(name == "RGBA")
    return writer


def _with_statement(comments: list[str], statement: str, longest: int) -> list[str]:
    """Comments that state the space once."""
    if any(statement in one for one in comments):
        return comments
    kept = [one for one in comments if f"{_SPACE}=" not in one]
    if len(comments) == 1 and kept and len(kept[0]) + len(statement) < longest:
        return [f"{kept[0]} {statement}"]
    return [*kept, statement] if longest == 1000 else [statement]


_WRITERS: dict[str, Callable[..., Any]] = {
    "vtk": _legacy_writer,
    "vtp": _xml_writer,
    "stl": _stl_writer,
    "ply": _ply_writer,
}


if __name__ == "__main__":
    serve({"read": read, "write": write})
