"""Surfaces as VTK, VTP, STL and PLY, with VTK in this process as reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stn3d.errors import InputError
from stn3d.io import read_geometry, write_geometry
from tests.io.points.cases import (
    affine,
    by_itk,
    deformable,
    facet_normals,
    point_map,
    sphere,
    volume,
)

pytest.importorskip("vtkmodules", reason="vtk is not installed: pip install 'stn3d[surfaces]'")

from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
from vtkmodules.vtkIOGeometry import vtkSTLReader, vtkSTLWriter
from vtkmodules.vtkIOLegacy import vtkPolyDataReader, vtkPolyDataWriter
from vtkmodules.vtkIOPLY import vtkPLYReader, vtkPLYWriter
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader, vtkXMLPolyDataWriter

VERTICES, TRIANGLES = sphere()
LPS = np.array([-1.0, -1, 1])
READERS = {
    "vtk": vtkPolyDataReader,
    "vtp": vtkXMLPolyDataReader,
    "stl": vtkSTLReader,
    "ply": vtkPLYReader,
}
WRITERS = {
    "vtk": vtkPolyDataWriter,
    "vtp": vtkXMLPolyDataWriter,
    "stl": vtkSTLWriter,
    "ply": vtkPLYWriter,
}


def named(array: Any, name: str) -> Any:
    found = numpy_to_vtk(np.ascontiguousarray(array), deep=1)
    found.SetName(name)
    return found


def surface(path: Path, points: Any = VERTICES, **settings: Any) -> Path:
    """A sphere with normals, colours, values at vertices and cells, and a line, written by VTK."""
    data, coordinates, cells = vtkPolyData(), vtkPoints(), vtkCellArray()
    coordinates.SetData(numpy_to_vtk(np.ascontiguousarray(points), deep=1))
    data.SetPoints(coordinates)
    for triangle in TRIANGLES.tolist():
        cells.InsertNextCell(3, triangle)
    data.SetPolys(cells)
    at_points, at_cells = data.GetPointData(), data.GetCellData()
    at_points.SetNormals(named((points / 20).astype("f4"), "Normals"))
    at_points.AddArray(named(np.arange(len(points)), "number"))
    colours = np.stack([np.arange(len(points))] * 3, axis=1).astype("u1")
    at_points.SetScalars(named(colours, "RGB"))
    at_cells.AddArray(named(np.arange(len(TRIANGLES)), "cell number"))
    writer = WRITERS[path.suffix[1:]]()
    writer.SetInputData(data)
    writer.SetFileName(str(path))
    if path.suffix == ".ply":
        writer.SetArrayName("RGB")
    for name, value in settings.items():
        getattr(writer, name)(value)
    assert writer.Write()
    return path


def read(path: Path) -> tuple[Any, Any, Any]:
    """Vertices, triangles and the whole of a surface by VTK; an STL's corners are merged."""
    reader = READERS[path.suffix[1:]]()
    reader.SetFileName(str(path))
    reader.Update()
    data = reader.GetOutput()
    cells = vtk_to_numpy(data.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return vtk_to_numpy(data.GetPoints().GetData()), cells, data


def corners(vertices: Any, triangles: Any) -> Any:
    """Corners of the triangles, which do not depend on the order of the vertices."""
    return np.asarray(vertices)[triangles]


@pytest.mark.parametrize("format", READERS)
def test_surfaces_agree_with_simpleitk_and_vtk(tmp_path: Path, format: str) -> None:
    path = surface(tmp_path / f"a.{format}")
    geometry = read_geometry(path)
    assert "does not state its coordinate system; RAS is assumed" in geometry.notes[0]
    write_geometry(tmp_path / f"b.{format}", geometry.mapped(point_map()))
    moved = by_itk(deformable(), VERTICES, tmp_path)
    points, triangles, data = read(tmp_path / f"b.{format}")
    np.testing.assert_allclose(corners(points, triangles), corners(moved, TRIANGLES), atol=3e-5)
    if format == "stl":
        return
    colours = vtk_to_numpy(data.GetPointData().GetArray("RGB"))
    np.testing.assert_array_equal(colours[:, 0], np.arange(len(VERTICES)))
    normals = vtk_to_numpy(data.GetPointData().GetNormals())
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    facets = facet_normals(moved, TRIANGLES)
    cosines = (facets * normals[TRIANGLES[:, 0]]).sum(axis=1)  # of a coarse sphere
    assert cosines.min() > 0.85
    assert cosines.mean() > 0.94
    if format != "ply":
        for at, name in ((data.GetPointData(), "number"), (data.GetCellData(), "cell number")):
            values = vtk_to_numpy(at.GetArray(name))
            np.testing.assert_array_equal(values, np.arange(len(values)))
        if format == "vtp":
            assert vtk_to_numpy(data.GetPoints().GetData()).dtype == np.float64


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.stl", {"SetHeader": "3D Slicer output. SPACE=LPS", "SetFileType": 2}),
        ("a.stl", {"SetHeader": "3D Slicer output. SPACE=LPS", "SetFileType": 1}),
        ("a.vtk", {"SetHeader": "3D Slicer output. SPACE=LPS"}),
        ("a.ply", {"AddComment": "3D Slicer output. SPACE=LPS"}),
    ],
)
def test_slicers_statement_is_read_and_kept(
    tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    path = surface(tmp_path / name, VERTICES * LPS, **settings)
    geometry = read_geometry(path)
    assert geometry.notes == ()
    write_geometry(tmp_path / f"b{path.suffix}", geometry.mapped(point_map()))
    points, triangles, _ = read(tmp_path / f"b{path.suffix}")
    expected = by_itk(deformable(), VERTICES, tmp_path) * LPS
    np.testing.assert_allclose(corners(points, triangles), corners(expected, TRIANGLES), atol=3e-5)
    assert b"SPACE=LPS" in (tmp_path / f"b{path.suffix}").read_bytes()[:500]
    is_text = b"facet" in (tmp_path / f"b{path.suffix}").read_bytes()
    assert is_text == (settings.get("SetFileType") == 1)


def test_coordinates_of_a_surface_that_states_none(tmp_path: Path) -> None:
    path = surface(tmp_path / "a.stl", VERTICES * LPS)
    geometry = read_geometry(path, "lps")
    assert geometry.notes == ()
    write_geometry(tmp_path / "b.surf.gii", geometry)  # another format, in RAS
    found = read_geometry(tmp_path / "b.surf.gii")
    assert np.ptp(np.abs(found.sample(10**6)[:, 0] - geometry.sample(10**6)[:, 0])) < 1e-5
    write_geometry(tmp_path / "c.vtp", found)
    assert read_geometry(tmp_path / "c.vtp").notes == ()  # states RAS
    points = np.sort(read(tmp_path / "c.vtp")[0], axis=0)
    np.testing.assert_allclose(points, np.sort(VERTICES, axis=0), atol=1e-5)


@pytest.mark.parametrize("name", ["b.vtp", "b.stl"])
def test_a_mirroring_transform_keeps_the_outside_outside(tmp_path: Path, name: str) -> None:
    geometry = read_geometry(surface(tmp_path / "a.vtp"))
    write_geometry(tmp_path / name, geometry.mapped(point_map(affine(True))))
    points, triangles, data = read(tmp_path / name)
    expected = abs(np.linalg.det(affine().matrix[:3, :3])) * volume(VERTICES, TRIANGLES)
    assert volume(points.astype(float), triangles) == pytest.approx(expected, rel=1e-4)
    if name == "b.vtp":
        normals = vtk_to_numpy(data.GetPointData().GetNormals())
        facets = facet_normals(points.astype(float), triangles)
        assert (facets * normals[triangles[:, 0]]).sum(axis=1).min() > 0.9


def test_what_a_format_cannot_keep_is_noted(tmp_path: Path) -> None:
    geometry = read_geometry(surface(tmp_path / "a.vtp"))
    assert "no values" in write_geometry(tmp_path / "b.stl", geometry)[0]
    assert "keeps the colours" in write_geometry(tmp_path / "b.ply", geometry)[0]
    text = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
    text += "property float z\nproperty float quality\nelement face 1\n"
    text += "property list uchar int vertex_indices\nend_header\n"
    (tmp_path / "c.ply").write_text(text + "0 0 0 1\n1 0 0 2\n0 1 0 3\n3 0 1 2\n")
    assert "quality of c.ply are not kept" in read_geometry(tmp_path / "c.ply").notes[0]


@pytest.mark.parametrize("format", READERS)
def test_damaged_files_are_one_sentence(tmp_path: Path, format: str) -> None:
    whole = surface(tmp_path / f"a.{format}").read_bytes()
    (tmp_path / f"b.{format}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot be read as a surface|is shorter than"):
        read_geometry(tmp_path / f"b.{format}")
    (tmp_path / f"c.{format}").write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot be read as a surface|holds no points"):
        read_geometry(tmp_path / f"c.{format}")


def test_a_grid_is_no_surface(tmp_path: Path) -> None:
    text = "# vtk DataFile Version 3.0\nfield\nASCII\nDATASET STRUCTURED_POINTS\n"
    (tmp_path / "a.vtk").write_text(text)
    with pytest.raises(InputError, match="holds structured_points, not a surface"):
        read_geometry(tmp_path / "a.vtk")


def test_a_surface_needs_vtk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = surface(tmp_path / "a.stl")
    monkeypatch.setattr("stn3d.io.points.vtk.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"needs the package vtk; .* 'stn3d\[surfaces\]'"):
        read_geometry(path)
