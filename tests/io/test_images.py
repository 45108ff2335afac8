"""Images, labels and masks: 2D and 3D, invalid input, writing."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import (
    Image,
    check_image_path,
    in_dimension,
    read_exact,
    read_image,
    read_labels,
    read_mask,
    require_same_grid,
    write_image,
)
from tests.helpers.geometry_cases import oblique
from tests.io.cases import AFFINE, SHAPE, nifti, numbers


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 6, 1, 1)])
def test_the_number_of_axes_is_the_dimension_as_in_itk(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    image = read_image(nifti(tmp_path / "a.nii", numbers(*shape)))
    d = min(3, len(shape))
    assert image.grid.shape == shape[:d]
    assert sitk.ReadImage(str(tmp_path / "a.nii")).GetDimension() == d  # a fourth axis of 1 is none
    kept = [0, 1, 3] if d == 2 else [0, 1, 2, 3]
    np.testing.assert_allclose(image.grid.world_from_index, AFFINE[kept][:, kept])
    write_image(tmp_path / "b.nii", image.values, image)
    again = nib.load(tmp_path / "b.nii")
    assert again.shape == shape[:3]
    np.testing.assert_allclose(again.affine, AFFINE)


def test_requested_dimensions(tmp_path: Path) -> None:
    thin = nifti(tmp_path / "a.nii", numbers(7, 6, 1))
    assert read_image(thin).grid.shape == (7, 6, 1)
    flat = read_image(thin, ndim=2)
    assert flat.grid.shape == (7, 6)
    again = in_dimension(read_image(thin), 2)
    assert again.grid.same_as(flat.grid)
    torch.testing.assert_close(again.values, flat.values)
    assert in_dimension(read_image(nifti(tmp_path / "b.nii", numbers())), 2).grid.ndim == 3
    with pytest.raises(InputError, match=r"a\.nii: the image is a volume of \(7, 6, 5\)"):
        read_image(nifti(tmp_path / "a.nii", numbers()), ndim=2)


@pytest.mark.parametrize("order", [[0, 2, 1], [2, 0, 1]])
def test_coronal_and_sagittal_slices_are_rejected(tmp_path: Path, order: list[int]) -> None:
    affine = AFFINE[[*order, 3]]
    with pytest.raises(InputError, match=r"a\.nii: the slice is coronal or sagittal"):
        read_image(nifti(tmp_path / "a.nii", numbers(7, 6), affine))


def with_bad_voxels() -> np.ndarray:
    array = numbers().astype(np.float32)
    array[0, 0, :2] = np.nan, np.inf
    return array


RGB = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


BAD_VOXELS = [
    (with_bad_voxels(), "has NaN or Inf in 2 of 210 voxels; replace them"),
    (np.zeros(SHAPE, np.int16), r"is constant \(every voxel is 0\)"),
    (np.full(SHAPE, 2.5, np.float32), r"is constant \(every voxel is 2.5\)"),
    (numbers().astype(np.complex64), "holds complex numbers; save its magnitude"),
    (RGB, r"is constant \(every voxel is 0\)"),
    (numbers(*SHAPE, 1, 3), "holds a vector in each voxel"),
    (numbers(7), r"has shape \(7,\); an image needs 2 or 3 axes"),
]


@pytest.mark.parametrize(("array", "message"), BAD_VOXELS)
def test_invalid_voxels_are_rejected(tmp_path: Path, array: np.ndarray, message: str) -> None:
    path = nifti(tmp_path / "a.nii.gz", array)
    with pytest.raises(InputError, match=rf"a\.nii\.gz {message}"):
        read_image(path, "fixed")


def test_constant_image_on_request(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", np.ones(SHAPE, np.int16))
    assert bool((read_image(path, allow_constant=True).values == 1).all())


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    good = nifti(tmp_path / "a.nii.gz", numbers(30, 30, 30)).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(good[: len(good) // 2])
    (tmp_path / "header.nii.gz").write_bytes(good[:60])
    (tmp_path / "short.nii").write_bytes(gzip.decompress(good)[:5000])
    (tmp_path / "empty.nii").write_bytes(b"")
    (tmp_path / "plain.nii.gz").write_bytes(gzip.decompress(good))
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "text.mha").write_text("hello")
    (tmp_path / "text.nii").write_text("hello" * 100)
    for name, message in {
        "missing.nii.gz": "there is no fixed image .*missing.nii.gz; check the path",
        "cut.nii.gz": "fixed image .*cut.nii.gz is truncated or damaged",
        "header.nii.gz": "header.nii.gz cannot be read as an image",
        "short.nii": "short.nii is truncated, or its header is damaged: it announces 52.7 KB",
        "empty.nii": "empty.nii cannot be read as an image",
        "plain.nii.gz": "plain.nii.gz cannot be read as an image .*that its extension is right",
        "text.txt": "text.txt cannot be read as an image",
        "text.mha": "text.mha cannot be read as an image",
        "text.nii": "text.nii cannot be read as an image",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            read_image(tmp_path / name, "fixed")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_labels_of_every_stored_type(tmp_path: Path, dtype: type) -> None:
    labels = read_labels(nifti(tmp_path / "a.nii", numbers().astype(dtype)))
    assert labels.values.dtype == torch.int32
    np.testing.assert_array_equal(labels.values[0, 0].numpy(), numbers())


def test_large_and_negative_labels_stay_exact(tmp_path: Path) -> None:
    array = np.zeros(SHAPE, np.int32)
    array[0, 0, :3] = 2**24 + 1, -3, 2**31 - 1  # float32 has no 2**24 + 1
    values = read_labels(nifti(tmp_path / "a.nii", array)).values
    assert values[0, 0, 0, 0, :3].tolist() == [2**24 + 1, -3, 2**31 - 1]
    image = read_labels(nifti(tmp_path / "a.nii", array))
    write_image(tmp_path / "b.nii", image.values, image)
    assert torch.equal(read_labels(tmp_path / "b.nii").values, values)


def test_invalid_labels_are_rejected(tmp_path: Path) -> None:
    array = numbers().astype(np.float32)
    array[1, 2, 3] = 4.25
    with pytest.raises(InputError, match=r"fixed labels .* hold fractions, the first is 4\.25"):
        read_labels(nifti(tmp_path / "a.nii", array), "fixed")
    with pytest.raises(InputError, match="hold only 0"):
        read_labels(nifti(tmp_path / "a.nii", np.zeros(SHAPE, np.uint8)))
    with pytest.raises(InputError, match="has NaN or Inf in 2"):
        read_labels(nifti(tmp_path / "a.nii", with_bad_voxels()))
    with pytest.raises(InputError, match=r"floats beyond 2\^53, which are not exact; store them"):
        read_labels(nifti(tmp_path / "a.nii", np.full(SHAPE, 2.0**53 + 2)))
    with pytest.raises(InputError, match=r"integers of 64 bits \(beyond 2\^63\)"):
        read_labels(nifti(tmp_path / "a.nii", np.full(SHAPE, 2**63, np.uint64)))


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint64])
def test_labels_up_to_2_53_stay_exact(tmp_path: Path, dtype: type) -> None:
    array = np.zeros(SHAPE, dtype)
    array[0, 0, :3] = 614454277, 2**31, 2**53
    labels = read_labels(nifti(tmp_path / "a.nii", array))
    assert labels.values.dtype == torch.int64
    assert labels.values[0, 0, 0, 0, :3].tolist() == [614454277, 2**31, 2**53]


def test_exact_values(tmp_path: Path) -> None:
    for given, expected in (
        (np.uint8, torch.int32),
        (np.int32, torch.int32),
        (np.uint32, torch.int64),
        (np.int64, torch.int64),
        (np.float32, torch.float32),
        (np.float64, torch.float64),
    ):
        image = read_exact(nifti(tmp_path / "a.nii", numbers().astype(given)))
        assert image.values.dtype == expected
        np.testing.assert_array_equal(image.values[0, 0].numpy(), numbers())
    with pytest.raises(InputError, match="has NaN or Inf in 2"):
        read_exact(nifti(tmp_path / "a.nii", with_bad_voxels()))


def test_masks(tmp_path: Path) -> None:
    array = numbers().astype(np.float32) / 10 - 3
    mask = read_mask(nifti(tmp_path / "a.nii", array))
    assert mask.values.dtype == torch.bool
    np.testing.assert_array_equal(mask.values[0, 0].numpy(), array != 0)
    assert bool(
        read_mask((torch.ones(SHAPE, dtype=torch.bool), Grid.of_spacing(SHAPE))).values.all()
    )
    with pytest.raises(InputError, match=r"fixed mask .* is empty \(all 0\)"):
        read_mask(nifti(tmp_path / "a.nii", np.zeros(SHAPE, np.uint8)), "fixed")


def test_same_grid() -> None:
    def image(grid: Grid, name: str) -> Image:
        made = read_image((torch.rand(grid.shape), grid))
        return Image(made.values, grid, name, made.header)

    reference = image(oblique(3), "f.nii")
    require_same_grid(image(oblique(3), "m.nii"), reference)
    smaller = oblique(3).cropped((0, 0, 0), (7, 6, 4))
    with pytest.raises(
        InputError,
        match=r"the fixed mask m.nii is on another grid than f.nii: \(7, 6, 4\) voxels against \(7",
    ):
        require_same_grid(image(smaller, "m.nii"), reference, "fixed mask")
    shifted = oblique(3).cropped((1, 0, 0), (8, 6, 5))
    with pytest.raises(
        InputError, match=r"labels m.nii are on .* lie up to 0\.8 mm apart; resample"
    ):
        require_same_grid(image(shifted, "m.nii"), reference, "fixed labels")


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 255, np.uint8),
        (0, 256, np.int16),
        (-1, 3, np.int16),
        (0, 40000, np.int32),
        (0, 2**40, np.int64),
    ],
)
def test_labels_are_written_in_the_smallest_type(
    tmp_path: Path, low: int, high: int, dtype: type
) -> None:
    image = read_image((torch.rand(SHAPE), oblique(3)))
    values = torch.full((1, 1, *SHAPE), low, dtype=torch.int64)
    values[0, 0, 1, 2, 3] = high
    write_image(tmp_path / "a.nii.gz", values, image)
    assert nib.load(tmp_path / "a.nii.gz").get_data_dtype() == dtype
    assert torch.equal(read_labels(tmp_path / "a.nii.gz").values, values)
    write_image(tmp_path / "m.nii.gz", values == high, image)
    assert nib.load(tmp_path / "m.nii.gz").get_data_dtype() == np.uint8


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_equal_input_gives_equal_bytes(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = read_image((torch.rand(SHAPE), oblique(3)))
    paths = [tmp_path / f"{name}{suffix}" for name in ("a", "another")]
    for hour, path in enumerate(paths):
        monkeypatch.setattr("time.time", lambda hour=hour: 1.7e9 + 3600 * hour)
        write_image(path, image.values, image)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == paths


def test_unsupported_paths_and_values_are_rejected(tmp_path: Path) -> None:
    image = read_image((torch.rand(SHAPE), oblique(3)))
    for name in ("a.jpg", "a", "a.gz", "a.nii.bz2"):
        with pytest.raises(InputError, match=r"use one of the extensions \.nii, \.nii\.gz"):
            check_image_path(tmp_path / name)
        with pytest.raises(InputError, match="cannot write an image as"):
            write_image(tmp_path / name, image.values, image)
    with pytest.raises(InputError, match="there is no folder"):
        check_image_path(tmp_path / "missing" / "a.nii.gz")
    with pytest.raises(ValueError, match=r"are not \(1, 1, \(7, 6, 5\)\)"):
        write_image(tmp_path / "a.nii.gz", image.values[0], image)
    assert list(tmp_path.iterdir()) == []


def test_real_labels(shared_data: Path) -> None:
    labels = read_labels(shared_data / "lung_mr" / "0004_lobes.nii.gz")  # stored as floats
    assert labels.values.dtype == torch.int32
    image = read_image(shared_data / "lung_mr" / "0004.nii.gz")
    require_same_grid(labels, image, "labels")
    with pytest.raises(InputError, match="hold 3 volumes"):
        read_labels(shared_data / "prostate" / "case0_mr_labels.nii.gz")
