"""Files written and read by stn3d and SimpleITK: the same voxels, points and transforms."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.io import GeometryWarning, read_image, read_transform, write_image, write_transform
from stn3d.transforms import (
    Affine,
    DisplacementField,
    Rigid,
    Similarity,
    Transform,
    VelocityField,
    chain,
)
from tests.helpers.geometry_cases import make_grid

TOLERANCE_MM = 1e-4
SHAPE = (7, 6, 5)
SIGNS = {"RAS": (1, 1, 1), "LAS": (-1, 1, 1), "LPS": (-1, -1, 1), "PLANE-DOWN": (1, 1, -1)}
ORIENTATIONS = [*SIGNS, "oblique", "left-handed oblique"]


def grid_in(orientation: str, d: int) -> Grid:
    """A grid of anisotropic voxels away from the origin."""
    if orientation in SIGNS:
        matrix = np.diag([*np.array([0.9, 1.5, 2.5]) * SIGNS[orientation], 1.0])
        matrix[:3, 3] = (-11, 23, 35)
        keep = [*range(d), 3]
        return Grid(SHAPE[:d], torch.from_numpy(matrix[np.ix_(keep, keep)]))
    left = orientation.startswith("left")
    angles = (20, -35, 50) if d == 3 else (35,)
    return make_grid(SHAPE[:d], (0.9, 1.5, 2.5), angles, (-31, 12, 57), left_handed=left)


def ras(points: Any) -> np.ndarray:
    """ITK's points converted from LPS to RAS, or from RAS to LPS."""
    points = np.array(points, dtype=float)
    points[..., :2] *= -1
    return points


def itk_points(image: sitk.Image) -> np.ndarray:
    """World RAS points of all voxels by SimpleITK, ``(*shape, d)``."""
    size = image.GetSize()
    points = [image.TransformIndexToPhysicalPoint([int(n) for n in i]) for i in np.ndindex(*size)]
    return ras(points).reshape(*size, len(size))


def assert_same_world(grid: Grid, path: Path) -> None:
    gap = np.abs(grid.points_mm().numpy() - itk_points(sitk.ReadImage(str(path))))
    assert gap.max() < TOLERANCE_MM


def assert_same_values(values: Tensor, path: Path) -> None:
    np.testing.assert_allclose(
        np.transpose(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))), values[0, 0].numpy()
    )


def random_values(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


# -- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_written_image_lies_in_the_same_place(
    tmp_path: Path, orientation: str, d: int, suffix: str
) -> None:
    grid, path = grid_in(orientation, d), tmp_path / f"image{suffix}"
    values = random_values(grid.shape)
    image = read_image((values, grid))
    write_image(path, values, image)
    assert_same_world(grid, path)
    assert_same_values(values, path)
    again = read_image(path)
    assert again.grid.same_as(grid, tolerance_vox=1e-5)
    assert torch.equal(again.values, values)


@pytest.mark.parametrize("codes", [(1, 1), (2, 2), (4, 4), (1, 0), (2, 0), (0, 1), (0, 4), (1, 2)])
@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_file_by_nibabel_is_read_to_the_same_place(
    tmp_path: Path, orientation: str, d: int, codes: tuple[int, int]
) -> None:
    affine = np.eye(4)
    affine[np.ix_([*range(d), 3], [*range(d), 3])] = grid_in(orientation, d).world_from_index
    image = nib.Nifti1Image(random_values(SHAPE[:d])[0, 0].numpy(), affine)
    image.set_qform(affine, codes[1])
    image.set_sform(affine, codes[0])
    path = tmp_path / "image.nii"
    image.to_filename(path)
    assert_same_world(read_image(path).grid, path)


def tilted(x_deg: float, y_deg: float) -> np.ndarray:
    """The affine of an inclined axial slice."""
    affine = np.eye(4)
    x, y = np.deg2rad([x_deg, y_deg])
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    affine[:3, :3] = np.array(about_y) @ about_x @ np.diag([0.9, 1.5, 4])
    affine[:3, 3] = (10, -20, 30)
    return affine


@pytest.mark.parametrize("angles", [(30, 0), (0, -40), (10, 10), (25, -30)])
def test_an_inclined_slice_has_the_same_geometry_as_in_itk(
    tmp_path: Path, angles: tuple[float, float]
) -> None:
    path = tmp_path / "slice.nii"
    image = nib.Nifti1Image(random_values((7, 6))[0, 0].numpy(), tilted(*angles))
    image.set_qform(tilted(*angles), 1)
    image.to_filename(path)
    assert_same_world(read_image(path).grid, path)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6)])
def test_header_without_geometry_is_read_as_itk_reads_it(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.float32)
    header["pixdim"][1:4] = (2, 3, 4)
    values = random_values(shape)
    path = tmp_path / "nowhere.nii"
    nib.Nifti1Image(values[0, 0].numpy(), None, header).to_filename(path)
    with pytest.warns(GeometryWarning, match="has no orientation"):
        image = read_image(path)
    assert_same_world(image.grid, path)
    write_image(tmp_path / "again.nii.gz", image.values, image)
    assert_same_world(image.grid, tmp_path / "again.nii.gz")


@pytest.mark.parametrize("unit", ["micron", "mm", "meter"])
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_units_become_millimetres_as_in_itk(tmp_path: Path, unit: str, form: str) -> None:
    image = nib.Nifti1Image(random_values(SHAPE)[0, 0].numpy(), None)
    getattr(image, f"set_{form}")(grid_in("oblique", 3).world_from_index.numpy(), 1)
    image.header["pixdim"][1:4] = (0.9, 1.5, 2.5)
    image.header.set_xyzt_units(unit)
    path = tmp_path / "image.nii"
    image.to_filename(path)
    read = read_image(path)
    expected = itk_points(sitk.ReadImage(str(path)))
    scale = {"micron": 1e-3, "mm": 1.0, "meter": 1e3}[unit]
    assert np.abs(read.grid.points_mm().numpy() - expected).max() < TOLERANCE_MM * max(scale, 1)
    write_image(tmp_path / "again.nii", read.values, read)
    assert read_image(tmp_path / "again.nii").grid.same_as(read.grid)
    assert nib.load(tmp_path / "again.nii").header.get_xyzt_units()[0] == unit


def with_forms(path: Path, sform: np.ndarray, codes: tuple[int, int]) -> None:
    """A file whose qform has no rotation, and the spacing of the sform."""
    image = nib.Nifti1Image(random_values(SHAPE)[0, 0].numpy(), None)
    image.set_qform(np.diag([0.9, 1.5, 2.5, 1]), codes[1])
    image.set_sform(sform, codes[0])
    image.to_filename(path)


def test_where_sform_and_qform_differ_itk_is_followed_only_for_scanner_sforms(
    tmp_path: Path,
) -> None:
    path, sform = tmp_path / "image.nii", grid_in("oblique", 3).world_from_index.numpy()
    with_forms(path, sform, (1, 2))
    assert_same_world(read_image(path).grid, path)
    with_forms(path, sform, (2, 1))
    with pytest.warns(GeometryWarning, match="sform and qform"):
        grid = read_image(path).grid
    np.testing.assert_allclose(grid.world_from_index, nib.load(path).affine, atol=1e-5)
    qform_points = np.moveaxis(np.indices(SHAPE), 0, -1) * (0.9, 1.5, 2.5)
    np.testing.assert_allclose(itk_points(sitk.ReadImage(str(path))), qform_points, atol=1e-5)


def test_the_sform_is_used_where_itk_takes_the_spacing_from_pixdim(tmp_path: Path) -> None:
    path = tmp_path / "image.nii"
    image = nib.Nifti1Image(random_values(SHAPE)[0, 0].numpy(), None)
    image.set_sform(np.diag([2.0, 2, 2, 1]), 1)
    image.to_filename(path)
    image.header["pixdim"][1:4] = 1
    with pytest.warns(GeometryWarning, match="sform and voxel sizes"):
        assert read_image(path).grid.spacing_mm == (2, 2, 2)
    assert sitk.ReadImage(str(path)).GetSpacing() == (1, 1, 1)


def test_a_sheared_sform_is_used_where_itk_uses_the_qform_or_fails(tmp_path: Path) -> None:
    path, sform = tmp_path / "image.nii", np.diag([1.0, 2, 3, 1])
    sform[0, 1] = 0.8
    with_forms(path, sform, (1, 1))
    with pytest.warns(GeometryWarning, match="sform and qform"):
        assert read_image(path).grid.world_from_index[0, 1] == pytest.approx(0.8)
    with_forms(path, sform, (1, 0))
    with pytest.warns(GeometryWarning, match="not orthogonal"):
        assert read_image(path).grid.world_from_index[0, 1] == pytest.approx(0.8)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))


def test_real_files_lie_where_itk_puts_them(shared_data: Path) -> None:
    names = ["brains/1000_t1", "contrasts/p07_t1", "ct_mr/scct", "lung_mr/0004_lobes", "abdomen/mr"]
    for name in names:
        path = shared_data / f"{name}.nii.gz"
        grid = read_image(path).grid
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        d = np.reshape(reader.GetDirection(), (3, 3)) * np.array(reader.GetSpacing())
        corners = torch.tensor(list(np.ndindex(2, 2, 2))) * (torch.tensor(grid.shape) - 1)
        expected = ras(corners.numpy() @ d.T + np.array(reader.GetOrigin()))
        linear, origin = grid.world_from_index[:3, :3], grid.world_from_index[:3, 3]
        np.testing.assert_allclose(corners.double() @ linear.T + origin, expected, atol=1e-4)


# -- transforms -----------------------------------------------------------------------------------


def field_on(grid: Grid, size_mm: float = 3.0, seed: int = 1) -> Tensor:
    noise = torch.randn(1, grid.ndim, *grid.shape, generator=torch.Generator().manual_seed(seed))
    return size_mm * noise


def cases(d: int) -> dict[str, Transform]:
    """One transform of every class, about a centre and on grids away from the origin."""
    centre = torch.tensor([12.0, -34, 56][:d]).double()
    turn, shift = torch.tensor([0.3, -0.2, 0.5]).double(), torch.tensor([4.0, -7, 11]).double()[:d]
    turn = turn if d == 3 else turn[:1]
    affine = torch.eye(d).double() + 0.1 * torch.arange(d * d).reshape(d, d).double().sin()
    linear = Affine(torch.cat([affine.flatten(), shift]), centre)
    grid = grid_in("left-handed oblique", d)
    field = DisplacementField(field_on(grid), grid)
    velocity = VelocityField(field_on(grid_in("oblique", d), 0.5), grid_in("oblique", d))
    return {
        "rigid": Rigid(torch.cat([turn, shift]), centre),
        "similarity": Similarity(torch.cat([turn, torch.tensor([0.2]).double(), shift]), centre),
        "affine": linear,
        "field": field,
        "velocity": velocity,
        "field, affine": chain(field, linear),
        "affine, field": chain(linear, DisplacementField(field_on(grid), moved(grid, linear))),
        "field, affine, velocity": chain(field, linear, velocity),
        "nested": chain(chain(field, linear), chain(velocity, field)),
    }


def moved(grid: Grid, linear: Affine) -> Grid:
    """A grid around the mapped points of a grid, so that a field there has an effect."""
    centre = linear.forward(grid.centre_mm[None])[0]
    shift = torch.eye(grid.ndim + 1).double()
    shift[:-1, -1] = centre - grid.centre_mm
    return Grid(grid.shape, shift @ grid.world_from_index)


def probes(d: int) -> Tensor:
    """Points inside, near the border (where the field ends) and far beyond ``(N, d)``."""
    grid = grid_in("left-handed oblique", d)
    generator = torch.Generator().manual_seed(3)
    index = torch.rand(300, d, generator=generator).double() * 12 - 3
    border = torch.tensor(list(np.ndindex(*[4] * d))).double()
    edges = torch.tensor([-0.5, 0, 1, 2]).double()[border.long()]
    edges = edges + torch.where(edges > 0, torch.tensor(grid.shape) - 2.5, 0.0)
    # Slightly inside and outside of the outer faces; on them, rounding errors matter.
    middle = (torch.tensor(grid.shape).double() - 1) / 2
    edges = torch.cat([middle + (edges - middle) * s for s in (0.9999, 1.0001)])
    linear, origin = grid.world_from_index[:-1, :-1], grid.world_from_index[:-1, -1]
    return torch.cat([index, edges]) @ linear.T + origin


def by_itk(path: Path, points: Tensor) -> np.ndarray:
    transform = sitk.ReadTransform(str(path))
    return ras([transform.TransformPoint(p) for p in ras(points.numpy()).tolist()])


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", list(cases(2)))
def test_written_transform_maps_points_as_in_itk(tmp_path: Path, name: str, d: int) -> None:
    transform, points = cases(d)[name], probes(d)
    write_transform(tmp_path / "t.h5", transform)
    ours = transform.forward(points)
    assert np.abs(by_itk(tmp_path / "t.h5", points) - ours.numpy()).max() < TOLERANCE_MM
    assert float((ours - points).abs().max()) > 0.3  # not the identity
    again = read_transform(tmp_path / "t.h5")
    assert float((again.forward(points) - ours).abs().max()) < TOLERANCE_MM


def test_the_points_cover_the_field_and_its_border() -> None:
    for d in (2, 3):
        gap = (cases(d)["field"].forward(probes(d)) - probes(d)).norm(dim=-1)
        assert 50 < int((gap == 0).sum()) < len(gap) - 50


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".mat"])
@pytest.mark.parametrize("name", ["rigid", "similarity", "affine"])
@pytest.mark.parametrize("d", [2, 3])
def test_linear_transform_in_its_other_formats(
    tmp_path: Path, d: int, name: str, suffix: str
) -> None:
    path, transform, points = tmp_path / f"t{suffix}", cases(d)[name], probes(d)
    write_transform(path, transform)
    expected = transform.forward(points).numpy()
    assert np.abs(by_itk(path, points) - expected).max() < TOLERANCE_MM
    assert np.abs(read_transform(path).forward(points).numpy() - expected).max() < TOLERANCE_MM


def test_sheared_field_grid_survives(tmp_path: Path) -> None:
    matrix = grid_in("oblique", 3).world_from_index.clone()
    matrix[0, 1] += 0.3
    grid = Grid(SHAPE, matrix)
    transform = DisplacementField(field_on(grid), grid)
    write_transform(tmp_path / "t.h5", transform)
    points = grid.points_mm().reshape(-1, 3)
    expected = transform.forward(points).numpy()
    assert np.abs(by_itk(tmp_path / "t.h5", points) - expected).max() < TOLERANCE_MM


FOREIGN_2D = [sitk.Euler2DTransform(), sitk.Similarity2DTransform(), sitk.TranslationTransform(2)]
FOREIGN_3D = [
    sitk.Euler3DTransform(),
    sitk.VersorRigid3DTransform(),
    sitk.Similarity3DTransform(),
    sitk.ScaleVersor3DTransform(),
    sitk.ScaleSkewVersor3DTransform(),
    sitk.VersorTransform(),
    sitk.ScaleTransform(3),
    sitk.TranslationTransform(3),
    sitk.AffineTransform(3),
]


@pytest.mark.parametrize("foreign", [*FOREIGN_2D, *FOREIGN_3D], ids=lambda t: t.GetName())
def test_every_linear_class_of_itk_is_read(tmp_path: Path, foreign: Any) -> None:
    d, generator = foreign.GetDimension(), np.random.default_rng(0)
    parameters = np.array(foreign.GetParameters())
    foreign.SetParameters((parameters + 0.1 * generator.random(len(parameters))).tolist())
    if foreign.GetNumberOfFixedParameters():
        foreign.SetCenter([5.0, -6, 7][:d])
    sitk.WriteTransform(foreign, str(tmp_path / "t.tfm"))
    points = probes(d)
    expected = by_itk(tmp_path / "t.tfm", points)
    got = read_transform(tmp_path / "t.tfm")
    assert isinstance(got, Affine)
    assert np.abs(got.forward(points).numpy() - expected).max() < TOLERANCE_MM
    assert np.abs(expected - points.numpy()).max() > 0.05


def test_a_class_written_by_ants_and_unnamed_by_simpleitk_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ants.txt"
    path.write_text(
        "#Insight Transform File V1.0\n#Transform 0\n"
        "Transform: MatrixOffsetTransformBase_double_3_3\n"
        "Parameters: 1 0.1 0 0 1.2 0 0.3 0 0.9 4 5 6\nFixedParameters: 7 8 9\n"
    )
    points = probes(3)
    got = read_transform(path).forward(points).numpy()
    assert np.abs(got - by_itk(path, points)).max() < TOLERANCE_MM


def test_composite_by_simpleitk_is_read_in_its_order(tmp_path: Path) -> None:
    grid = grid_in("oblique", 3)
    write_transform(tmp_path / "field.h5", DisplacementField(field_on(grid), grid))
    field = sitk.ReadTransform(str(tmp_path / "field.h5"))
    euler = sitk.Euler3DTransform((1.0, 2, 3), 0.2, -0.3, 0.4, (5.0, 6, 7))
    for number, parts in enumerate(([field, euler], [euler, field], [euler, field, euler])):
        path = tmp_path / f"c{number}.h5"
        composite = sitk.CompositeTransform(parts)
        composite.FlattenTransform()
        sitk.WriteTransform(composite, str(path))
        points = probes(3)
        got = read_transform(path).forward(points).numpy()
        assert np.abs(got - by_itk(path, points)).max() < TOLERANCE_MM


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_nitransforms_reads_the_same_transform(tmp_path: Path, orientation: str) -> None:
    """At voxel centres; between them nitransforms uses cubic splines, ITK linear interpolation."""
    manip = pytest.importorskip("nitransforms.manip")
    grid = grid_in(orientation, 3)
    transform = chain(DisplacementField(field_on(grid), grid), cases(3)["affine"])
    write_transform(tmp_path / "t.h5", transform)
    points = grid.points_mm().reshape(-1, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warns that no reference image is set; none is needed
        theirs = manip.TransformChain.from_filename(tmp_path / "t.h5", fmt="itk").map(
            points.numpy()
        )
    assert np.abs(theirs - transform.forward(points).numpy()).max() < TOLERANCE_MM
