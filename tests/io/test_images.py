"""Images, labels and masks: every source, what is written, and what is refused in one sentence."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import (
    GeometryWarning,
    Image,
    check_image_path,
    read_image,
    read_labels,
    read_mask,
    require_same_grid,
    write_image,
)
from tests.helpers.geometry_cases import oblique

SHAPE = (7, 6, 5)
AFFINE = np.array([[-2.0, 0, 0, 11], [0, 1.5, 0, -7], [0, 0, 3, 5], [0, 0, 0, 1]])


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, shape or SHAPE).astype(np.int16)


def nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.Nifti1Image(array, affine, dtype=array.dtype).to_filename(path)
    return path


# -- sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_values_of_every_stored_type(tmp_path: Path, dtype: type) -> None:
    array = numbers().astype(dtype)
    image = read_image(nifti(tmp_path / "a.nii.gz", array))
    assert image.values.dtype == torch.float32
    assert image.values.shape == (1, 1, *SHAPE)
    np.testing.assert_array_equal(image.values[0, 0].numpy(), array)
    np.testing.assert_allclose(image.grid.world_from_index.numpy(), AFFINE)
    assert image.name.endswith("a.nii.gz")


def test_slope_intercept_and_byte_order(tmp_path: Path) -> None:
    array = numbers()
    image = nib.Nifti1Image(array, AFFINE, nib.Nifti1Header(endianness=">"))
    image.header.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([0.5, -3], dtype=">f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(raw)
    np.testing.assert_allclose(read_image(tmp_path / "a.nii").values[0, 0].numpy(), array * 0.5 - 3)


@pytest.mark.parametrize("endianness", "<>")
@pytest.mark.parametrize("volume", [None, 1])
def test_compressed_files_give_what_nibabel_gives(
    tmp_path: Path, endianness: str, volume: int | None
) -> None:
    array = numbers(*SHAPE, 3) if volume else numbers()
    image = nib.Nifti1Image(array, AFFINE, nib.Nifti1Header(endianness=endianness))
    image.header.set_slope_inter(0.37, -3)
    image.to_filename(tmp_path / "a.nii.gz")
    expected = np.asanyarray(nib.load(tmp_path / "a.nii.gz").dataobj).astype(np.float32)
    got = read_image(tmp_path / "a.nii.gz", volume=volume).values[0, 0].numpy()
    np.testing.assert_array_equal(got, expected[..., volume] if volume else expected)


def test_the_end_of_a_compressed_file_does_not_matter(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii.gz", numbers(30, 30, 30))
    expected, good = read_image(path).values, path.read_bytes()
    for content in (good + b"more", good[:-8], good[:-8] + bytes(8)):
        path.write_bytes(content)
        assert torch.equal(read_image(path).values, expected)


def test_other_formats_agree_with_nifti(tmp_path: Path) -> None:
    array = numbers().astype(np.float32)
    expected = read_image(nifti(tmp_path / "a.nii", array))
    nib.MGHImage(array, AFFINE).to_filename(tmp_path / "a.mgz")
    itk = sitk.ReadImage(str(tmp_path / "a.nii"))
    for name in ("a.mha", "a.nrrd"):
        sitk.WriteImage(itk, str(tmp_path / name))
    for name in ("a.mgz", "a.mha", "a.nrrd"):
        image = read_image(tmp_path / name)
        assert torch.equal(image.values, expected.values)
        assert image.grid.same_as(expected.grid)


def test_sources_in_memory(tmp_path: Path) -> None:
    array = numbers().astype(np.float32)
    expected = read_image(nifti(tmp_path / "a.nii", array))
    tensor, grid = torch.from_numpy(array), expected.grid
    sources: list[Any] = [
        str(tmp_path / "a.nii"),
        nib.Nifti1Image(array, AFFINE),
        nib.load(tmp_path / "a.nii"),
        (tensor, grid),
        (tensor[None], grid),
        (tensor[None, None].double().requires_grad_(), grid),
        expected,
    ]
    for source in sources:
        image = read_image(source)
        assert torch.equal(image.values, expected.values)
        assert image.grid.same_as(grid)
        assert not image.values.requires_grad


def test_metatensors(tmp_path: Path) -> None:
    monai = pytest.importorskip("monai.data")
    array = torch.from_numpy(numbers().astype(np.float32))
    lps = torch.diag(torch.tensor([-1.0, -1, 1, 1])).double() @ torch.from_numpy(AFFINE)
    for source in (
        monai.MetaTensor(array, affine=torch.from_numpy(AFFINE)),
        monai.MetaTensor(array[None], affine=torch.from_numpy(AFFINE)),
        monai.MetaTensor(array[None], affine=lps, meta={"space": "LPS"}),
    ):
        image = read_image(source)
        assert type(image.values) is torch.Tensor
        assert torch.equal(image.values[0, 0], array)
        np.testing.assert_allclose(image.grid.world_from_index.numpy(), AFFINE)
    two = monai.MetaTensor(torch.stack([array, array + 1]), affine=torch.from_numpy(AFFINE))
    with pytest.raises(InputError, match="holds 2 volumes; choose one with --moving-volume N"):
        read_image(two, "moving")
    assert torch.equal(read_image(two, volume=1).values[0, 0], array + 1)


def test_metatensors_of_a_plane() -> None:
    monai = pytest.importorskip("monai.data")
    array = torch.from_numpy(numbers(7, 6).astype(np.float32))
    plane = torch.tensor([[2.0, 0, 3], [0, 1.5, 4], [0, 0, 1]]).double()
    space = torch.from_numpy(AFFINE)
    for tensor, affine in ((array, plane), (array[None], plane), (array, space)):
        image = read_image(monai.MetaTensor(tensor, affine=affine))
        assert image.grid.shape == (7, 6)
        assert torch.equal(image.values[0, 0], array)
    image = read_image(monai.MetaTensor(array[None], affine=plane))
    assert torch.equal(image.grid.world_from_index, plane)
    rgb = monai.MetaTensor(array.expand(3, 7, 6), affine=plane)
    with pytest.raises(InputError, match="holds 3 volumes"):
        read_image(rgb)


def test_import_brings_neither_monai_nor_simpleitk() -> None:
    code = (
        "import sys, stn3d.io; "
        "sys.exit(str(sorted({'monai', 'SimpleITK'} & set(sys.modules))) "
        "if {'monai', 'SimpleITK'} & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf8", check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def dicom_series(folder: Path, heights_mm: list[float], uid: str = "1.2.3") -> None:
    """An axial MR series with slices at these heights."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, z in enumerate(heights_mm, start=1):
        image = sitk.GetImageFromArray(np.full((1, 6, 7), number * 10, dtype=np.int16))
        image.SetSpacing([1.5, 2, 3])
        tags = {
            "0008|0018": f"{uid}.{number}",
            "0008|0060": "MR",
            "0020|000d": "1.2.9",
            "0020|000e": uid,
            "0020|0013": str(number),
            "0020|0032": f"-10\\-20\\{z}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid}_{number}.dcm"))
        writer.Execute(image)


def test_folder_of_one_dicom_series(tmp_path: Path) -> None:
    dicom_series(tmp_path / "scan", [0, 3, 6, 9])
    image = read_image(tmp_path / "scan")
    assert image.grid.shape == (7, 6, 4)
    expected = np.diag([-1.5, -2, 3, 1])
    expected[:3, 3] = (10, 20, 0)
    np.testing.assert_allclose(image.grid.world_from_index.numpy(), expected)
    assert image.values[0, 0, 0, 0].tolist() == [10, 20, 30, 40]


def test_folders_that_are_not_one_series(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="holds no DICOM series; give an image file"):
        read_image(tmp_path)
    dicom_series(tmp_path / "gap", [0, 3, 9, 12])
    with pytest.raises(InputError, match="are missing or unevenly spaced by up to 3 mm"):
        read_image(tmp_path / "gap")
    dicom_series(tmp_path / "two", [0, 3, 6])
    dicom_series(tmp_path / "two", [0, 3], uid="1.2.4")
    with pytest.raises(InputError, match=r"2 DICOM series.*1\.2\.3\S* \(3 files\), 1\.2\.4\S* \(2"):
        read_image(tmp_path / "two")
    assert capfd.readouterr().err == ""


# -- two dimensions, four dimensions --------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 6, 1, 1)])
def test_one_slice_is_2d_and_keeps_its_stored_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = read_image(nifti(tmp_path / "a.nii", numbers(*shape)))
    assert image.grid.shape == (7, 6)
    np.testing.assert_allclose(image.grid.world_from_index, AFFINE[[0, 1, 3]][:, [0, 1, 3]])
    write_image(tmp_path / "b.nii", image.values, image)
    again = nib.load(tmp_path / "b.nii")
    assert again.shape == shape[:3]
    np.testing.assert_allclose(again.affine, AFFINE)


def test_dimensions_can_be_asked_for(tmp_path: Path) -> None:
    thin = nifti(tmp_path / "a.nii", numbers(7, 6, 1))
    assert read_image(thin, ndim=3).grid.shape == (7, 6, 1)
    with pytest.raises(InputError, match=r"a\.nii: the image is a volume of \(7, 6, 5\)"):
        read_image(nifti(tmp_path / "a.nii", numbers()), ndim=2)


@pytest.mark.parametrize("order", [[0, 2, 1], [2, 0, 1]])
def test_upright_slice_is_refused(tmp_path: Path, order: list[int]) -> None:
    affine = AFFINE[[*order, 3]]
    with pytest.raises(InputError, match=r"a\.nii: the slice is coronal or sagittal"):
        read_image(nifti(tmp_path / "a.nii", numbers(7, 6), affine))


def test_volume_of_4d(tmp_path: Path) -> None:
    array = numbers(*SHAPE, 3)
    path = nifti(tmp_path / "a.nii.gz", array)
    with pytest.raises(InputError, match=r"fixed image .* holds 3 volumes; .* --fixed-volume N"):
        read_image(path, "fixed")
    with pytest.raises(InputError, match="has no volume 3; it holds 3, counted from 0"):
        read_image(path, "fixed", volume=3)
    image = read_image(path, volume=2)
    np.testing.assert_array_equal(image.values[0, 0].numpy(), array[..., 2])
    write_image(tmp_path / "b.nii", image.values, image)
    assert nib.load(tmp_path / "b.nii").shape == SHAPE
    assert read_image(nifti(path, numbers(*SHAPE, 1))).grid.shape == SHAPE
    fifth = read_image(nifti(tmp_path / "e.nii.gz", array[..., None]), volume=2)
    np.testing.assert_array_equal(fifth.values[0, 0].numpy(), array[..., 2])
    for read, verb in ((read_labels, "labels .* hold"), (read_mask, "mask .* holds")):
        with pytest.raises(InputError, match=rf"{verb} 3 volumes; save the volume to use"):
            read(nifti(path, array))


# -- refused --------------------------------------------------------------------------------------


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
    (RGB, "holds colours; convert it"),
    (numbers(*SHAPE, 1, 3), "holds a vector in each voxel"),
    (numbers(7), r"has shape \(7,\); an image needs 2 or 3 axes"),
]


@pytest.mark.parametrize(("array", "message"), BAD_VOXELS)
def test_useless_voxels(tmp_path: Path, array: np.ndarray, message: str) -> None:
    path = nifti(tmp_path / "a.nii.gz", array)
    with pytest.raises(InputError, match=rf"a\.nii\.gz {message}"):
        read_image(path, "fixed")


def test_constant_image_on_request(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", np.ones(SHAPE, np.int16))
    assert bool((read_image(path, allow_constant=True).values == 1).all())


def test_colours_and_vectors_by_simpleitk(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((4, 5, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "a.png"))
    with pytest.raises(InputError, match="holds colours or vectors; convert it to one scalar"):
        read_image(tmp_path / "a.png")


def test_useless_geometry(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.nii"
    raw = bytearray(nifti(path, numbers()).read_bytes())
    for cut in (slice(280, 328), slice(280, 296)):  # srow_x, y, z; srow_x
        damaged = raw.copy()
        damaged[cut] = bytes(cut.stop - cut.start)
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.nii: the image's affine is singular"):
            read_image(path)
    damaged[280:284] = np.float32(np.nan).tobytes()
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"a\.nii: the image's affine holds NaN"):
        read_image(path)
    raw[254:256] = bytes(2)  # sform_code
    for size in (0, -1):
        raw[80:84] = np.float32(size).tobytes()  # pixdim[1]
        path.write_bytes(raw)
        with pytest.raises(InputError, match="voxel sizes are not positive and there is no sform"):
            read_image(path)
    assert capfd.readouterr().err == ""


def test_what_is_no_image(tmp_path: Path) -> None:
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
        "short.nii": "fixed image .*short.nii is truncated",
        "empty.nii": "empty.nii cannot be read as an image",
        "plain.nii.gz": "plain.nii.gz cannot be read as an image .*that its extension is right",
        "text.txt": "text.txt cannot be read as an image",
        "text.mha": "text.mha cannot be read as an image",
        "text.nii": "text.nii cannot be read as an image",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            read_image(tmp_path / name, "fixed")
        assert "\n" not in str(caught.value)


def test_what_is_no_source() -> None:
    with pytest.raises(InputError, match="the moving image is a Tensor; give a path"):
        read_image(torch.zeros(3, 4, 5), "moving")
    with pytest.raises(InputError, match=r"shape \(2, 7, 6, 5\), but its grid has \(7, 6, 5\)"):
        read_image((torch.rand(2, *SHAPE), Grid.of_spacing(SHAPE)))
    with pytest.raises(InputError, match=r"shape \(6, 7\), but its grid has \(7, 6\)"):
        read_image((torch.rand(6, 7), Grid.of_spacing((7, 6))))


# -- labels and masks -----------------------------------------------------------------------------


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


def test_labels_that_are_refused(tmp_path: Path) -> None:
    array = numbers().astype(np.float32)
    array[1, 2, 3] = 4.25
    with pytest.raises(InputError, match=r"fixed labels .* hold fractions, the first is 4\.25"):
        read_labels(nifti(tmp_path / "a.nii", array), "fixed")
    with pytest.raises(InputError, match="hold only 0"):
        read_labels(nifti(tmp_path / "a.nii", np.zeros(SHAPE, np.uint8)))
    with pytest.raises(InputError, match="has NaN or Inf in 2"):
        read_labels(nifti(tmp_path / "a.nii", with_bad_voxels()))
    with pytest.raises(InputError, match="beyond 32 bits"):
        read_labels(nifti(tmp_path / "a.nii", np.full(SHAPE, 1e12)))


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


# -- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 1), (4, 1), (0, 0)])
def test_affines_and_codes_are_those_of_the_model(tmp_path: Path, codes: tuple[int, int]) -> None:
    model = nib.Nifti1Image(numbers(), AFFINE)
    qform = AFFINE.copy()
    qform[0, 3] += 0.01  # not what stn3d follows, but it must stay
    model.set_qform(qform, codes[1])
    model.set_sform(AFFINE, codes[0])
    model.header.set_xyzt_units("mm", "sec")
    model.to_filename(tmp_path / "a.nii")
    if codes == (0, 0):
        with pytest.warns(GeometryWarning, match="has no orientation"):
            image = read_image(tmp_path / "a.nii")
    else:
        image = read_image(tmp_path / "a.nii")
    write_image(tmp_path / "b.nii.gz", image.values, image)
    a, b = nib.load(tmp_path / "a.nii"), nib.load(tmp_path / "b.nii.gz")
    assert b.get_data_dtype() == np.float32
    assert (int(b.header["sform_code"]), int(b.header["qform_code"])) == codes
    np.testing.assert_array_equal(b.get_sform(), a.get_sform())
    np.testing.assert_array_equal(b.get_qform(), a.get_qform())
    np.testing.assert_array_equal(b.header["pixdim"][:4], a.header["pixdim"][:4])
    assert b.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(b.get_fdata(), a.get_fdata())


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 255, np.uint8), (0, 256, np.int16), (-1, 3, np.int16), (0, 40000, np.int32)],
)
def test_labels_are_written_small(tmp_path: Path, low: int, high: int, dtype: type) -> None:
    image = read_image((torch.rand(SHAPE), oblique(3)))
    values = torch.full((1, 1, *SHAPE), low, dtype=torch.int32)
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


def test_what_cannot_be_written(tmp_path: Path) -> None:
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
