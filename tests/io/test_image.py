"""Images as files and as objects of other packages, checked by those packages."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import LoadImage, SaveImage, Spacing

from stn3d.grid import Grid
from stn3d.io import Image, as_image, read_exact, read_image, write_image
from tests.helpers.geometry_cases import oblique
from tests.io.cases import AFFINE, SHAPE, nifti, numbers

IDS = (614454277, 614454278)


def image_on(grid: Grid, dtype: torch.dtype = torch.float32) -> Image:
    values = torch.arange(grid.num_voxels).reshape(1, 1, *grid.shape)
    return as_image((values.to(dtype), grid))


@pytest.mark.parametrize("d", [2, 3])
def test_an_image_as_a_simpleitk_image_and_back(d: int) -> None:
    grid = oblique(d)
    image = image_on(grid)
    converted = image.to_sitk()
    index = tuple(range(1, d + 1))
    assert converted[index] == image.numpy()[index]
    lps = np.array(converted.TransformIndexToPhysicalPoint(index))
    lps[:2] *= -1
    np.testing.assert_allclose(lps, grid.points_mm()[index].numpy(), atol=1e-9)
    again = as_image(converted)
    assert torch.equal(again.values, image.values)
    assert again.grid.same_as(grid)


def test_a_simpleitk_image_is_read_as_its_file_is(tmp_path: Path) -> None:
    stored = nib.Nifti1Image(numbers(), AFFINE)
    stored.to_filename(tmp_path / "a.nii.gz")
    by_itk = as_image(sitk.ReadImage(str(tmp_path / "a.nii.gz")))
    by_nibabel = read_exact(tmp_path / "a.nii.gz")
    assert torch.equal(by_itk.values, by_nibabel.values)
    assert by_itk.grid.same_as(by_nibabel.grid)


def test_an_image_as_a_nibabel_image_has_the_header_of_its_file(tmp_path: Path) -> None:
    loaded = nib.load(nifti(tmp_path / "a.nii", numbers()))
    loaded.header.set_sform(AFFINE, 4)
    loaded.to_filename(tmp_path / "b.nii")
    converted = read_exact(tmp_path / "b.nii").to_nibabel()
    np.testing.assert_array_equal(np.asarray(converted.dataobj), numbers())
    np.testing.assert_allclose(converted.affine, AFFINE)
    assert converted.header["sform_code"] == 4
    converted.to_filename(tmp_path / "c.nii")
    np.testing.assert_array_equal(nib.load(tmp_path / "c.nii").get_fdata(), numbers())


def test_a_header_without_orientation_does_not_move_the_image(tmp_path: Path) -> None:
    bare = nib.Nifti1Image(numbers(), None)
    bare.header.set_zooms((2.0, 1.5, 3.0))
    bare.to_filename(tmp_path / "a.nii")
    with pytest.warns(UserWarning, match="no orientation"):
        image = read_exact(tmp_path / "a.nii")
    np.testing.assert_allclose(image.to_nibabel().affine, image.affine)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float64])
def test_every_value_survives_as_a_nibabel_image(dtype: torch.dtype) -> None:
    grid = Grid.of_spacing((2, 1, 1))
    values = torch.tensor([1 / 3, 2 / 3] if dtype.is_floating_point else [0, 614454277]).to(dtype)
    image = as_image((values.reshape(1, 1, 2, 1, 1), grid))
    converted = image.to_nibabel()
    assert np.asarray(converted.dataobj).ravel().tolist() == values.tolist()


def test_an_image_as_a_metatensor_and_back() -> None:
    image = image_on(oblique(3), torch.int32)
    tensor = image.to_metatensor()
    assert tuple(tensor.shape) == (1, *image.grid.shape)
    torch.testing.assert_close(tensor.affine, image.grid.world_from_index)
    again = Image.from_metatensor(tensor)
    assert type(again.values) is torch.Tensor
    assert torch.equal(again.values, image.values)
    assert again.grid.same_as(image.grid)
    assert as_image(tensor).grid.same_as(image.grid)


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")
def test_a_metatensor_of_an_image_is_that_of_monai(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii.gz", numbers())
    by_monai = LoadImage(image_only=True, ensure_channel_first=True)(path)
    tensor = read_image(path).to_metatensor()
    torch.testing.assert_close(tensor.as_tensor(), by_monai.as_tensor(), check_dtype=False)
    torch.testing.assert_close(tensor.affine, by_monai.affine)
    spaced = Spacing(pixdim=(2.0, 2.0, 2.0))
    torch.testing.assert_close(spaced(tensor).affine, spaced(by_monai).affine)
    SaveImage(tmp_path, output_postfix="", separate_folder=False, print_log=False)(tensor)
    np.testing.assert_allclose(nib.load(path).get_fdata(), numbers())


@pytest.mark.parametrize("d", [2, 3])
def test_a_batch_of_one_metatensor_is_its_image(d: int) -> None:
    image = image_on(Grid.of_spacing((4, 3, 2)[:d], (2.0, 1.0, 3.0)[:d]))
    batch = list_data_collate([image.to_metatensor()])
    for read in (as_image, Image.from_metatensor):
        again = read(batch)
        assert torch.equal(again.values, image.values)
        assert again.grid.same_as(image.grid)


def test_channels_of_a_metatensor_are_volumes(tmp_path: Path) -> None:
    values = torch.stack([torch.from_numpy(numbers()), torch.from_numpy(numbers()) + 1])
    image = Image.from_metatensor(MetaTensor(values, affine=torch.from_numpy(AFFINE)))
    assert tuple(image.values.shape) == (1, 2, *SHAPE)
    assert image.numpy().shape == (*SHAPE, 2)
    image.save(tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").shape == (*SHAPE, 2)
    assert image.to_sitk().GetNumberOfComponentsPerPixel() == 2
    assert image.to_nibabel().shape == (*SHAPE, 2)
    assert tuple(image.to_metatensor().shape) == (2, *SHAPE)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_labels_are_saved_exactly(suffix: str, tmp_path: Path) -> None:
    labels = torch.zeros(1, 1, *SHAPE, dtype=torch.int32)
    labels[..., 1:3] = torch.tensor(IDS, dtype=torch.int32)
    image = as_image((labels, Grid(SHAPE, torch.from_numpy(AFFINE))))
    image.save(tmp_path / f"a{suffix}")
    assert torch.equal(read_exact(tmp_path / f"a{suffix}").values, labels)


def test_float64_values_are_saved_as_they_are(tmp_path: Path) -> None:
    image = as_image(
        (torch.full((1, 1, 2, 2), 1 / 3, dtype=torch.float64), Grid.of_spacing((2, 2)))
    )
    image.save(tmp_path / "a.nii")
    assert nib.load(tmp_path / "a.nii").get_fdata().ravel().tolist() == [1 / 3] * 4
    write_image(tmp_path / "b.nii", image.values.float(), image)
    assert nib.load(tmp_path / "b.nii").get_data_dtype() == np.float32


def test_colours_are_saved_and_converted(tmp_path: Path) -> None:
    channels = np.random.default_rng(0).integers(0, 255, (3, 4, 3), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(channels, isVector=True), str(tmp_path / "a.nrrd"))
    image = as_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image.to_sitk()), channels)
    assert as_image(image.to_sitk()).colours is not None
    image.save(tmp_path / "b.nrrd")
    again = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.nrrd")))
    np.testing.assert_array_equal(again, channels)
    assert image.to_nibabel().get_data_dtype().names == ("R", "G", "B")
