"""Points between the spaces of two images: the direction follows from naming one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

import stn3d
from stn3d import transform_points
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import read_points, write_points, write_transform
from stn3d.transforms import DisplacementField, Translation, chain
from tests.io.points.cases import GRID, affine, deformable
from tests.io.points.test_streamlines import lines, tck

POINTS = torch.tensor([[1.0, 2, 3], [-20, 10, 5], [15, -15, 30]], dtype=torch.float64)


def registration(folder: Path) -> Path:
    """The files of a registration."""
    folder.mkdir()
    field, linear = deformable().parts
    assert isinstance(field, DisplacementField)
    write_transform(folder / "transform.h5", deformable())
    write_transform(folder / "inverse.h5", chain(linear.inverse(), field.inverse()))
    return folder


def in_csv(path: Path, points: Tensor = POINTS) -> Path:
    write_points(path, points)
    return path


@pytest.mark.parametrize("given", ["", "transform.h5", "inverse.h5"])
@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_the_named_image_decides(tmp_path: Path, given: str, role: str) -> None:
    folder = registration(tmp_path / "result")
    moving = deformable()(POINTS)
    source, target = (POINTS, moving) if role == "fixed" else (moving, POINTS)
    found = transform_points(folder / given, source, points_in=role)  # type: ignore[call-overload]
    assert (found - target).norm(dim=1).max() < (1e-5 if role == "fixed" else 0.1)
    done = transform_points(
        folder / given, in_csv(tmp_path / "a.csv", source), tmp_path / "b.csv", points_in=role  # type: ignore[call-overload]
    )  # fmt: skip
    assert (read_points(tmp_path / "b.csv")[0] - found).abs().max() < 2e-6
    names = {"fixed": "transform.h5", "moving": "inverse.h5"}
    assert (done.source, done.name) == (role, names[role])
    assert done.size == "3 points"


def test_the_default_is_the_direction_of_the_file(tmp_path: Path) -> None:
    folder = registration(tmp_path / "result")
    there = transform_points(folder, POINTS)
    assert torch.allclose(there, deformable()(POINTS))
    assert (transform_points(folder / "inverse.h5", there) - POINTS).abs().max() < 0.1


def test_the_inverse_of_another_registration_is_not_used(tmp_path: Path) -> None:
    folder = registration(tmp_path / "result")
    write_transform(folder / "inverse.h5", Translation(torch.full((3,), 9.0), torch.zeros(3)))
    moving = in_csv(tmp_path / "a.csv", deformable()(POINTS))
    done = transform_points(folder, moving, tmp_path / "b.csv", points_in="moving")
    assert "computed, since inverse.h5 beside it is another transform's" in done.name
    assert (read_points(tmp_path / "b.csv")[0] - POINTS).norm(dim=1).max() < 0.1
    (folder / "inverse.h5").unlink()
    done = transform_points(folder, moving, tmp_path / "b.csv", points_in="moving")
    assert done.name == "the inverse of transform.h5, computed"
    assert (read_points(tmp_path / "b.csv")[0] - POINTS).norm(dim=1).max() < 0.1


def test_arrays_of_every_kind_keep_their_shape_and_precision() -> None:
    shift = affine()
    for points in ([[1, 2, 3]], np.array([[1, 2, 3]]), torch.tensor([[1, 2, 3]])):
        found = transform_points(shift, points)
        assert found.dtype == torch.float64
        assert torch.equal(found, shift(torch.tensor([[1.0, 2, 3]]).double()))
    far = torch.tensor([[1e6 + 0.001, 2, 3]], dtype=torch.float64)  # float32 has 0.06 mm there
    assert transform_points(shift, far).sub(shift(far)).abs().max() == 0
    assert transform_points(shift, POINTS.reshape(3, 1, 3)).shape == (3, 1, 3)
    assert transform_points(shift, POINTS[0]).shape == (3,)
    back = transform_points(shift, transform_points(shift, POINTS), points_in="moving")
    assert torch.allclose(back, POINTS)


def test_points_beyond_the_field_are_counted(tmp_path: Path) -> None:
    points = torch.cat([POINTS, torch.tensor([[1e5, 0, 0]], dtype=torch.float64)])
    path = tmp_path / "transform.h5"
    write_transform(path, deformable())
    done = transform_points(path, in_csv(tmp_path / "a.csv", points), tmp_path / "b.csv")
    assert done.notes[0].startswith("1 of 4 points leave the displacement field")
    assert torch.allclose(read_points(tmp_path / "b.csv")[0][3], affine()(points[3:])[0])


def test_streamlines_to_the_fixed_image_have_its_grid(tmp_path: Path) -> None:
    folder = registration(tmp_path / "result")
    matrix = GRID.world_from_index.numpy()
    image = nib.Nifti1Image(np.zeros((10, 10, 10), np.float32), matrix)
    image.to_filename(folder / "moved.nii.gz")
    path = tck(tmp_path / "a.tck", lines())
    done = transform_points(folder, path, tmp_path / "b.trk", points_in="moving")
    assert done.notes[-1].endswith("moved.nii.gz")
    assert "of 5 streamlines leave the field of view" in done.notes[-1]
    np.testing.assert_array_equal(
        nib.streamlines.load(tmp_path / "b.trk").header["dimensions"], [10, 10, 10]
    )


def test_wrong_input_is_one_sentence(tmp_path: Path) -> None:
    path, out = in_csv(tmp_path / "a.csv"), tmp_path / "b.csv"
    with pytest.raises(InputError, match=r"holds no transform\.h5; give the folder of a reg"):
        transform_points(tmp_path, path, out)
    with pytest.raises(InputError, match="the image that the points belong to 'fix' is unknown"):
        transform_points(affine(), POINTS, points_in="fix")  # type: ignore[call-overload]
    with pytest.raises(InputError, match="the array holds 2D points and the transform is 3D"):
        transform_points(affine(), POINTS[:, :2])
    with pytest.raises(InputError, match="as out"):
        transform_points(affine(), path)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="it is an input of this command"):
        transform_points(affine(), path, path)
    with pytest.raises(InputError, match=r"holds points, and stl holds a surface; use"):
        transform_points(affine(), path, tmp_path / "b.stl")
    with pytest.raises(InputError, match=r"its extension is unknown; points can be written as"):
        transform_points(affine(), path, tmp_path / "b.xyz")
    assert not out.exists()


def test_a_point_without_an_image_is_not_written(tmp_path: Path) -> None:
    field = torch.zeros(1, 3, 20, 20, 20)
    field[:, 0, ::2] = torch.nan
    with pytest.raises(InputError, match="point 1 of 3 is NaN or Inf after the transform"):
        transform_points(
            DisplacementField(field, GRID), in_csv(tmp_path / "a.csv"), tmp_path / "b.csv"
        )
    assert not (tmp_path / "b.csv").exists()


def test_it_is_public() -> None:
    assert stn3d.transform_points is transform_points


def test_a_moved_surface_encloses_the_moved_label(tmp_path: Path) -> None:
    pytest.importorskip("vtkmodules", reason="vtk is not installed")
    halved = torch.diag(torch.tensor([0.5, 0.5, 0.5, 1.0], dtype=torch.float64))
    grid = Grid((40, 40, 40), GRID.world_from_index @ halved)
    points = grid.points_mm()
    inside = (points - 3).norm(dim=-1) < 18 + 4 * torch.sin(points[..., 0] / 4)
    matrix = grid.world_from_index.numpy()
    label = nib.Nifti1Image(inside.numpy().astype(np.uint8), matrix)
    label.to_filename(tmp_path / "label.nii.gz")
    surface_of(inside.numpy(), matrix, tmp_path / "a.surf.gii")
    folder = registration(tmp_path / "result")
    transform_points(folder, tmp_path / "a.surf.gii", tmp_path / "b.surf.gii", points_in="moving")
    moved = stn3d.apply(stn3d.read_transform(folder / "transform.h5"), label, label).values[0, 0]
    enclosed = enclosed_by(tmp_path / "b.surf.gii", matrix, grid.shape)
    both = (enclosed & (moved.numpy() > 0)).sum()
    assert 2 * both / (enclosed.sum() + (moved > 0).sum()) > 0.95  # 0.2 the other way
    transform_points(folder, tmp_path / "a.surf.gii", tmp_path / "c.surf.gii", points_in="fixed")
    enclosed = enclosed_by(tmp_path / "c.surf.gii", matrix, grid.shape)
    both = (enclosed & (moved.numpy() > 0)).sum()
    assert 2 * both / (enclosed.sum() + (moved > 0).sum()) < 0.9


def vtk_image(array: Any) -> Any:
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData

    found = vtkImageData()
    found.SetDimensions(*array.shape)
    values = numpy_to_vtk(np.ascontiguousarray(array.ravel(order="F")), deep=1)
    found.GetPointData().SetScalars(values)
    return found


def surface_of(inside: Any, matrix: Any, path: Path) -> None:
    """Surface of a label by marching cubes, in world coordinates."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

    cubes = vtkFlyingEdges3D()
    cubes.SetInputData(vtk_image(inside.astype(np.float32)))
    cubes.SetValue(0, 0.5)
    cubes.Update()
    found = cubes.GetOutput()
    points = nib.affines.apply_affine(
        matrix, vtk_to_numpy(found.GetPoints().GetData()).astype(float)
    )
    faces = vtk_to_numpy(found.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    arrays = [
        nib.gifti.GiftiDataArray(points.astype("f4"), "NIFTI_INTENT_POINTSET"),
        nib.gifti.GiftiDataArray(faces.astype("i4"), "NIFTI_INTENT_TRIANGLE"),
    ]
    nib.gifti.GiftiImage(darrays=arrays).to_filename(path)


def enclosed_by(path: Path, matrix: Any, shape: tuple[int, ...]) -> Any:
    """Voxels inside a surface, by VTK."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkImagingStencil import vtkImageStencil, vtkPolyDataToImageStencil

    points, faces = (array.data for array in nib.load(path).darrays)
    index = nib.affines.apply_affine(np.linalg.inv(matrix), points.astype(float))
    surface, vertices, cells = vtkPolyData(), vtkPoints(), vtkCellArray()
    vertices.SetData(numpy_to_vtk(index, deep=1))
    counted = np.concatenate([np.full((len(faces), 1), 3), faces], axis=1).astype(np.int64)
    cells.ImportLegacyFormat(numpy_to_vtkIdTypeArray(counted.ravel(), deep=1))
    surface.SetPoints(vertices)
    surface.SetPolys(cells)
    stencil, masked = vtkPolyDataToImageStencil(), vtkImageStencil()
    stencil.SetInputData(surface)
    stencil.SetOutputWholeExtent(*[n for size in shape for n in (0, size - 1)])
    masked.SetInputData(vtk_image(np.ones(shape, np.float32)))
    masked.SetStencilConnection(stencil.GetOutputPort())
    masked.SetBackgroundValue(0)
    masked.Update()
    values = vtk_to_numpy(masked.GetOutput().GetPointData().GetScalars())
    return values.reshape(shape, order="F") > 0
