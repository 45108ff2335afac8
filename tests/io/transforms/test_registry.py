"""All formats: round trips, recognition, what is refused."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from stn3d.choices import TRANSFORM_FORMATS, TransformFormat
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import check_transform_path, read_transform, write_transform
from stn3d.io.transforms.registry import FORMATS
from stn3d.transforms import Affine, Transform
from tests.helpers.geometry_cases import QUICK, make_grid
from tests.io.transforms.cases import (
    FIELD_FILES,
    GRIDS,
    LINEAR_FILES,
    MOVING,
    SLOW_FILES,
    affine,
    affines,
    field,
    largest_gap_mm,
    points_in,
    volumes,
    write_volume,
)

LINEAR_MM, DENSE_MM = 0.001, 0.01


def again(
    name: str, transform: Transform, fixed: Grid, moving: Grid, format: TransformFormat
) -> Transform:
    """Written and read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        written = write_transform(path, transform, fixed=fixed, moving=moving, format=format)
        assert sorted(Path(folder).iterdir()) == sorted(written)
        assert set(written) <= set(check_transform_path(path, format))
        return read_transform(path, fixed=fixed, moving=moving, format=format)


@pytest.mark.parametrize(("format", "name"), LINEAR_FILES)
@settings(QUICK, max_examples=6)
@given(fixed=volumes(), moving=volumes(), transform=affines())
def test_linear_round_trips(
    format: TransformFormat, name: str, fixed: Grid, moving: Grid, transform: Affine
) -> None:
    found = again(name, transform, fixed, moving, format)
    assert largest_gap_mm(found, transform, fixed) < LINEAR_MM


@pytest.mark.parametrize(("format", "name"), FIELD_FILES)
@settings(QUICK, max_examples=3)
@given(fixed=volumes(), moving=volumes(), transform=affines())
def test_dense_round_trips(
    format: TransformFormat, name: str, fixed: Grid, moving: Grid, transform: Affine
) -> None:
    for dense in (field(fixed), field(fixed).then(transform)):
        found = again(name, dense, fixed, moving, format)
        assert largest_gap_mm(found, dense, fixed) < DENSE_MM


@pytest.mark.parametrize(("format", "name"), SLOW_FILES)
@pytest.mark.parametrize("orientation", ["LAS", "oblique"])
def test_round_trips_through_another_process(
    format: TransformFormat, name: str, orientation: str
) -> None:
    fixed = GRIDS[orientation]
    dense = field(fixed).then(affine())
    assert largest_gap_mm(again(name, dense, fixed, MOVING, format), dense, fixed) < LINEAR_MM
    found = again(name, affine(), fixed, MOVING, format)
    assert largest_gap_mm(found, affine(), fixed) < LINEAR_MM


@pytest.mark.parametrize("format", ["itk", "greedy"])
def test_plane_round_trips(format: TransformFormat) -> None:
    grid = make_grid((9, 8), (0.7, 1.3), (25,), (-4, 9), left_handed=True)
    dense = field(grid)
    for name in ("t.nii.gz", "t.mha", "t.nrrd") if format == "itk" else ("t.nii.gz",):
        assert largest_gap_mm(again(name, dense, grid, grid, format), dense, grid) < DENSE_MM


def test_images_may_be_paths_or_images(tmp_path: Path) -> None:
    fixed, moving = GRIDS["oblique"], GRIDS["LAS"]
    paths = [
        write_volume(tmp_path / name, grid)
        for name, grid in (("f.nii.gz", fixed), ("m.nii", moving))
    ]
    write_transform(tmp_path / "t.mat", affine(), fixed=fixed, moving=moving, format="fsl")
    found = read_transform(tmp_path / "t.mat", fixed=paths[0], moving=paths[1], format="fsl")
    assert largest_gap_mm(found, affine(), fixed) < LINEAR_MM


def test_every_format_has_a_name_and_a_sentence() -> None:
    assert set(FORMATS) | {"auto"} == set(TRANSFORM_FORMATS)
    assert all(format.name == name for name, format in FORMATS.items())


@pytest.mark.parametrize(
    ("format", "name"),
    [
        *LINEAR_FILES,
        *FIELD_FILES,
        *SLOW_FILES,
        ("itk", "t.tfm"),
        ("itk", "t.mat"),
        ("itk", "t.txt"),
    ],
)
def test_formats_are_recognised_or_refused(
    tmp_path: Path, format: TransformFormat, name: str
) -> None:
    grid = GRIDS["RAS"]
    linear = (format, name) in LINEAR_FILES or name in ("t.tfm", "t.mat", "t.txt")
    transform = affine() if linear else field(grid)
    write_transform(tmp_path / name, transform, fixed=grid, moving=MOVING, format=format)
    found = {one for one in FORMATS.values() if one.recognises(tmp_path / name)}
    unclear = {("greedy", "t.mat"), ("fsl", "t.mat"), ("afni", "t.nii.gz"), ("monai", "t.nii.gz")}
    if (format, name) in unclear:
        with pytest.raises(InputError, match=rf"may have several formats; .*{format}:"):
            read_transform(tmp_path / name, fixed=grid, moving=MOVING)
    elif (format, name) == ("greedy", "t.nii.gz"):  # greedy writes ITK's fields
        assert {one.name for one in found} == {"itk"}
    else:
        assert {one.name for one in found} == {format}


@pytest.mark.parametrize("format", ["fsl", "afni", "freesurfer", "elastix", "monai"])
def test_images_that_are_needed_are_named(tmp_path: Path, format: TransformFormat) -> None:
    name = dict(LINEAR_FILES).get(format, "t.npy")
    with pytest.raises(InputError, match=r"needs (both images: give --like|the fixed image)"):
        write_transform(tmp_path / name, affine(), format=format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("format", "name"),
    [("fsl", "t.mat"), ("afni", "t.1D"), ("freesurfer", "t.lta"), ("itk", "t.tfm")],
)
def test_fields_are_refused_by_linear_formats(
    tmp_path: Path, format: TransformFormat, name: str
) -> None:
    with pytest.raises(InputError, match="stores linear transforms only"):
        write_transform(tmp_path / name, field(MOVING), fixed=MOVING, moving=MOVING, format=format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("format", "name"), [("fsl", "t.h5"), ("dicom", "t.tfm"), ("x5", "t.h5")])
def test_wrong_extensions_are_refused(tmp_path: Path, format: TransformFormat, name: str) -> None:
    with pytest.raises(InputError, match=r"use (\.|the extension)"):
        check_transform_path(tmp_path / name, format)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean afni"):
        read_transform("x.mat", format="afno")  # type: ignore[arg-type]


@pytest.mark.parametrize(("format", "name"), [*LINEAR_FILES, *FIELD_FILES, *SLOW_FILES])
def test_missing_and_empty_files_are_one_sentence(
    tmp_path: Path, format: TransformFormat, name: str
) -> None:
    for content in (None, b"(Transform\n" * 30):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            read_transform(tmp_path / name, fixed=MOVING, moving=MOVING, format=format)


@pytest.mark.parametrize(("format", "name"), FIELD_FILES)
def test_fields_that_are_not_finite_are_refused(
    tmp_path: Path, format: TransformFormat, name: str
) -> None:
    bad = field(MOVING)
    bad.displacement_mm[0, 1, 2, 3, 4] = np.nan
    with pytest.raises(InputError, match=r"has no value at some voxels"):
        write_transform(tmp_path / name, bad, fixed=MOVING, moving=MOVING, format=format)


def test_batches_are_refused(tmp_path: Path) -> None:
    twice = Affine(affine().parameters.expand(2, -1), torch.zeros(3).double())
    for format, name in LINEAR_FILES:
        with pytest.raises(ValueError, match="a batch of 2"):
            write_transform(tmp_path / name, twice, fixed=MOVING, moving=MOVING, format=format)


def test_a_chain_is_sampled_on_its_own_grid_where_that_is_exact(tmp_path: Path) -> None:
    """A coarse field and an affine on a finer fixed image keep the coarse grid."""
    fixed = make_grid((20, 18, 16), (1, 1, 1))
    coarse = fixed.resampled(2.5)
    dense = field(coarse, 4.0).then(affine())
    write_transform(tmp_path / "t.mha", dense, fixed=fixed)
    found = read_transform(tmp_path / "t.mha")
    points = points_in(coarse)
    assert float((found(points) - dense(points)).norm(dim=-1).max()) < LINEAR_MM
