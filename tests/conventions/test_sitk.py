"""The sampler, the transforms and the warp against SimpleITK, in every orientation."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.sampler import Interpolation, inside
from stn3d.transforms import (
    Affine,
    DisplacementField,
    Rigid,
    Similarity,
    Transform,
    VelocityField,
    chain,
    rotation_matrix,
)
from stn3d.warp import warp_image, warp_labels
from tests.helpers import sitk_reference
from tests.helpers.paths import DATA

BRAINS = DATA / "brains"
DIMS = (2, 3)
ORIENTATIONS = ("RAS", "LAS", "LPS", "oblique")
MODES: dict[Interpolation, int] = {
    "linear": sitk.sitkLinear,
    "nearest": sitk.sitkNearestNeighbor,
    "cubic": sitk.sitkBSpline,
}


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def grid_of(name: str, shape: tuple[int, ...], spacing: tuple[float, ...], near: Tensor) -> Grid:
    """A grid of a given orientation, centred near a point."""
    d = len(shape)
    signs = {"RAS": (1, 1, 1), "LAS": (-1, 1, 1), "LPS": (-1, -1, 1), "oblique": (1, -1, 1)}[name]
    turn = np.eye(3)
    if name == "oblique":
        turn = Rotation.from_euler("zxy", [35, -20, 50] if d == 3 else [35, 0, 0], True).as_matrix()
    linear = torch.from_numpy(turn[:d, :d] * np.array(signs[:d]) * np.array(spacing[:d]))
    half = (torch.tensor(shape).double() - 1) / 2
    return Grid(shape, homogeneous(linear, near - linear @ half))


def moving_grid(name: str, d: int) -> Grid:
    return grid_of(
        name, (11, 9, 8)[:d], (1.7, 0.9, 2.6), torch.tensor([40.0, -25, 13])[:d].double()
    )


def fixed_grid(name: str, d: int) -> Grid:
    """A grid larger than the moving grid, so that its voxels reach the border and beyond."""
    near = torch.tensor([40.3, -24.6, 13.9])[:d].double()
    return grid_of(name, (17, 12, 14)[:d], (1.23, 1.81, 2.07), near)


def linear_pairs(d: int) -> list[tuple[Transform, sitk.Transform]]:
    """Each linear transform with its ITK equivalent, from the same parameters."""
    turn = torch.tensor([0.35] if d == 2 else [0.2, -0.3, 0.25]).double()
    shift, centre = random(d, seed=1), moving_grid("RAS", d).centre_mm + random(d, seed=2)
    scale = torch.tensor([1.15]).double()
    matrix = torch.eye(d).double() + 0.15 * random(d, d, seed=3)
    return [
        (Rigid(torch.cat([turn, shift]), centre), sitk_reference.rigid(turn, shift, centre)),
        (
            Similarity(torch.cat([turn, scale.log(), shift]), centre),
            sitk_reference.similarity(turn, float(scale), shift, centre),
        ),
        (
            Affine(torch.cat([matrix.flatten(), shift]), centre),
            sitk_reference.affine(matrix, shift, centre),
        ),
    ]


def field_pair(grid: Grid, seed: int = 5) -> tuple[DisplacementField, sitk.Transform]:
    values = random(1, grid.ndim, *grid.shape, seed=seed)
    return DisplacementField(values, grid), sitk_reference.field(values, grid)


def points_about(grid: Grid, count: int = 200) -> Tensor:
    """Points inside the grid, in its outer half voxels and beyond."""
    size = torch.tensor(grid.shape)
    generator = torch.Generator().manual_seed(9)
    unit = torch.rand(count, grid.ndim, generator=generator, dtype=torch.float64)
    return apply_matrix(grid.world_from_index, unit * (size + 2) - 1.5)


# -- points ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", DIMS)
def test_points_through_linear_transforms(d: int) -> None:
    x = points_about(moving_grid("oblique", d))
    for ours, theirs in linear_pairs(d):
        torch.testing.assert_close(ours(x), sitk_reference.mapped(theirs, x), rtol=0, atol=1e-9)
        back = sitk_reference.mapped(theirs.GetInverse(), x)
        torch.testing.assert_close(ours.inverse()(x), back, rtol=0, atol=1e-9)
        single = ours(x.float()).double()
        torch.testing.assert_close(single, sitk_reference.mapped(theirs, x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("angles", [(0.3, 0, 0), (0, 0.4, 0), (0, 0, -0.5), (0.3, 0.4, -0.5)])
def test_points_through_euler_angles(angles: tuple[float, float, float]) -> None:
    """Rotations about x and y have opposite signs in LPS and RAS; ITK's order is y, x, z."""
    turn = np.diag([-1.0, -1, 1]) @ np.array(angles)
    matrix = torch.eye(3).double()
    for axis in (1, 0, 2):
        vector = torch.zeros(3).double()
        vector[axis] = float(turn[axis])
        matrix = rotation_matrix(vector) @ matrix
    shift, centre = random(3, seed=1), random(3, seed=2) * 30
    theirs = sitk.Euler3DTransform()
    theirs.SetRotation(*angles)
    sitk_reference.place(theirs, shift, centre)
    vector = torch.from_numpy(Rotation.from_matrix(matrix.numpy()).as_rotvec())
    ours = Rigid(torch.cat([vector, shift]), centre)
    x = points_about(moving_grid("RAS", 3))
    torch.testing.assert_close(ours(x), sitk_reference.mapped(theirs, x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_points_through_fields_and_composites(d: int, name: str) -> None:
    grid = moving_grid(name, d)
    x = points_about(grid)
    ours, theirs = field_pair(grid)
    expected = sitk_reference.mapped(theirs, x)
    moved = (expected - x).norm(dim=-1) > 0
    assert 20 < int(moved.sum()) < len(x)  # some points lie beyond the field
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-9)
    (rigid, rigid_itk), _, (affine, affine_itk) = linear_pairs(d)
    for parts, twins in (
        ((rigid, ours), (rigid_itk, theirs)),
        ((ours, affine), (theirs, affine_itk)),
        ((rigid, affine, ours, rigid), (rigid_itk, affine_itk, theirs, rigid_itk)),
    ):
        expected = sitk_reference.mapped(sitk_reference.composite(twins, d), x)
        torch.testing.assert_close(chain(*parts)(x), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("d", DIMS)
def test_a_velocity_field_equals_its_displacement_field(d: int) -> None:
    grid = moving_grid("oblique", d)
    ours = VelocityField(random(1, d, *grid.shape), grid)
    x = points_about(grid)
    theirs = sitk_reference.field(ours.displacement.displacement_mm, grid)
    torch.testing.assert_close(ours(x), sitk_reference.mapped(theirs, x), rtol=0, atol=1e-9)


# -- grids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_indices_and_world_positions(d: int, name: str) -> None:
    grid = moving_grid(name, d)
    image = sitk_reference.set_geometry(sitk.Image(list(grid.shape), sitk.sitkUInt8), grid)
    index = tuple(n - 1 - a for a, n in enumerate(grid.shape))
    expected = sitk_reference.flip(d) @ np.array(image.TransformIndexToPhysicalPoint(index))
    torch.testing.assert_close(
        grid.points_mm()[index], torch.from_numpy(expected), rtol=0, atol=1e-9
    )


# -- images ---------------------------------------------------------------------------------------


def assert_same_image(ours: Tensor, theirs: Tensor, index: Tensor, how: Interpolation) -> None:
    """Within 1e-4 of the range away from faces and, for nearest, from ties."""
    spread = float(theirs.max() - theirs.min())
    tie = ((index - index.floor() - 0.5).abs() < 1e-6).any(-1)[None, None]
    assert float(tie.float().mean()) < 0.01
    gap = torch.where(tie, 0, (ours - theirs).abs())
    assert float(gap.max()) <= (0 if how == "nearest" else 1e-4 * spread)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("how", list(MODES))
@pytest.mark.parametrize(
    ("moving_name", "fixed_name"),
    [
        ("RAS", "LPS"),
        ("LAS", "RAS"),
        ("LPS", "oblique"),
        ("oblique", "LAS"),
        ("oblique", "oblique"),
    ],
)
def test_images(d: int, how: Interpolation, fixed_name: str, moving_name: str) -> None:
    moving, fixed = moving_grid(moving_name, d), fixed_grid(fixed_name, d)
    image = random(1, 1, *moving.shape)
    field, field_itk = field_pair(fixed_grid("oblique", d))
    linear, linear_itk = linear_pairs(d)[2]
    both = sitk_reference.composite((field_itk, linear_itk), d)
    for ours, theirs in ((linear, linear_itk), (chain(field, linear), both)):
        index = apply_matrix(moving.index_from_world, ours(fixed.points_mm()))
        expected = sitk_reference.resampled(
            sitk_reference.image_of(image, moving), fixed, theirs, MODES[how], -9
        )
        actual = warp_image(image, moving, ours, fixed, how, -9)
        assert_same_image(actual, expected, index, how)


@pytest.mark.parametrize("d", DIMS)
def test_the_images_above_reach_the_border_and_beyond(d: int) -> None:
    moving, fixed = moving_grid("oblique", d), fixed_grid("LPS", d)
    transform = linear_pairs(d)[0][0]
    index = apply_matrix(moving.index_from_world, transform(fixed.points_mm()))
    within = inside(index, moving.shape)
    last = torch.tensor(moving.shape) - 1
    outer = within & ((index < 0) | (index > last)).any(-1)
    assert int(outer.sum()) > 10
    assert 10 < int(within.sum()) < fixed.num_voxels - 10


@pytest.mark.parametrize("how", list(MODES))
def test_the_exact_border(how: Interpolation) -> None:
    """ITK includes the lower faces and excludes the upper ones; positions are exact in binary."""
    moving = Grid.of_spacing((4, 3))
    image = random(1, 1, 4, 3)
    fixed = Grid.of_spacing((11, 3), (0.5, 1)).cropped((-1, 0), (9, 3))
    theirs = sitk.Transform(2, sitk.sitkIdentity)
    expected = sitk_reference.resampled(
        sitk_reference.image_of(image, moving), fixed, theirs, MODES[how], -9
    )
    actual = warp_image(image, moving, Rigid.identity(2), fixed, how, -9)
    assert (expected[..., -2:, :] == -9).all()
    assert (expected[..., 0, :] != -9).all()
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", DIMS)
def test_labels(d: int) -> None:
    moving, fixed = moving_grid("LAS", d), fixed_grid("oblique", d)
    labels = (random(1, 1, *moving.shape) * 500).to(torch.int32)
    for ours, theirs in linear_pairs(d):
        expected = sitk_reference.resampled(
            sitk_reference.image_of(labels, moving), fixed, theirs, sitk.sitkNearestNeighbor, 0
        )
        assert torch.equal(warp_labels(labels, moving, ours, fixed), expected)


# -- real data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", list(MODES))
def test_a_real_brain(how: Interpolation, tmp_path: Path) -> None:
    source = BRAINS / "1000_t1.nii.gz"
    if not source.exists():
        pytest.skip(f"no real data at {BRAINS}")
    whole = nib.load(source)
    part = whole.slicer[60:84, 70:96, 50:70]
    nib.save(part, tmp_path / "part.nii")
    values = torch.from_numpy(part.get_fdata())[None, None]
    moving = Grid(part.shape, torch.from_numpy(part.affine))
    fixed = grid_of("oblique", (20, 21, 22), (1.3, 1.1, 1.4), moving.centre_mm + 0.7)
    turn, shift = torch.tensor([0.1, -0.15, 0.2]).double(), torch.tensor([1.3, -2.1, 0.6]).double()
    ours = Rigid(torch.cat([turn, shift]), moving.centre_mm)
    theirs = sitk_reference.rigid(turn, shift, moving.centre_mm)
    read = sitk.ReadImage(str(tmp_path / "part.nii"), sitk.sitkFloat64)
    expected = sitk_reference.resampled(read, fixed, theirs, MODES[how], -1)
    index = apply_matrix(moving.index_from_world, ours(fixed.points_mm()))
    assert float(inside(index, moving.shape).float().mean()) > 0.3
    assert float(expected.std()) > 1
    assert_same_image(warp_image(values, moving, ours, fixed, how, -1), expected, index, how)
