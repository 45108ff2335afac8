"""Colour images: formats, luminance, alpha, writing; by SimpleITK and nibabel as reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.errors import InputError
from stn3d.io import read_image, read_labels, read_mask, write_colours
from stn3d.io.colours import channels_of, colours_of, luminance, opacity
from tests.io.cases import AFFINE


def some_colours(count: int, dtype: Any, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max + 1, (*shape, count)).astype(dtype)


def picture(path: Path, channels: np.ndarray) -> Path:
    """Written by SimpleITK: (x, y, C)."""
    d = channels.ndim - 1
    rows = np.ascontiguousarray(np.transpose(channels, (*reversed(range(d)), d)))
    sitk.WriteImage(sitk.GetImageFromArray(rows, isVector=True), str(path))
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".mha", ".nrrd"])
def test_pictures_are_read_as_luminance_with_their_colours(
    tmp_path: Path, suffix: str, count: int, dtype: Any
) -> None:
    channels = some_colours(count, dtype, 7, 6)
    image = read_image(picture(tmp_path / f"a{suffix}", channels))
    assert image.grid.shape == (7, 6)
    assert image.colours is not None
    np.testing.assert_array_equal(channels_of(image.colours), channels)
    plain = channels[..., :3].astype(np.float64)
    expected = 0.2126 * plain[..., 0] + 0.7152 * plain[..., 1] + 0.0722 * plain[..., 2]
    if count == 4:
        expected = expected * channels[..., 3] / np.iinfo(dtype).max
    np.testing.assert_allclose(image.values[0, 0].numpy(), expected, rtol=1e-5)


def test_a_jpeg_is_read_as_simpleitk_decodes_it(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.jpg", some_colours(3, np.uint8, 16, 24))
    decoded = np.transpose(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), (1, 0, 2))
    colours = read_image(path).colours
    assert colours is not None
    np.testing.assert_array_equal(channels_of(colours), decoded)


def test_a_volume_of_colours(tmp_path: Path) -> None:
    channels = some_colours(3, np.uint8, 7, 6, 5)
    image = read_image(picture(tmp_path / "a.mha", channels))
    assert image.values.shape == (1, 1, 7, 6, 5)
    assert image.colours is not None
    np.testing.assert_array_equal(channels_of(image.colours), channels)


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 5), (7, 1, 5)])
def test_rgb24_and_rgba32_by_nibabel(
    tmp_path: Path, shape: tuple[int, ...], suffix: str, count: int
) -> None:
    colours = colours_of(some_colours(count, np.uint8, *shape))
    assert colours is not None
    nib.save(nib.Nifti1Image(colours, AFFINE), tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    assert image.grid.shape == shape
    assert image.colours is not None
    np.testing.assert_array_equal(image.colours, colours)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 5)])
def test_written_colours_are_those_that_simpleitk_and_stn3d_read(
    tmp_path: Path, shape: tuple[int, ...], suffix: str, count: int, dtype: Any
) -> None:
    channels = some_colours(count, dtype, *shape)
    like = read_image(picture(tmp_path / "a.mha", channels))
    colours = like.colours
    assert colours is not None
    path = tmp_path / f"b{suffix}"
    write_colours(path, [colours], like)
    again = read_image(path)
    assert again.colours is not None
    np.testing.assert_array_equal(again.colours.reshape(colours.shape), colours)
    image = sitk.ReadImage(str(path))
    assert image.GetNumberOfComponentsPerPixel() == count
    by_itk = np.squeeze(sitk.GetArrayFromImage(image))
    d = len(shape)
    np.testing.assert_array_equal(np.transpose(by_itk, (*reversed(range(d)), d)), channels)
    assert by_itk.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_vectors_of_other_types_are_no_colours(tmp_path: Path, dtype: Any) -> None:
    vectors = np.ones((7, 6, 5, 3), dtype)
    with pytest.raises(InputError, match="vectors that are no colours"):
        read_image(picture(tmp_path / "a.mha", vectors))
    nib.save(nib.Nifti1Image(vectors[:, :, :, None], AFFINE), tmp_path / "a.nii")
    with pytest.raises(InputError, match="a vector in each voxel"):
        read_image(tmp_path / "a.nii")


def test_colours_are_no_labels_but_may_be_a_mask(tmp_path: Path) -> None:
    channels = np.zeros((7, 6, 3), np.uint8)
    channels[2:4, 3, 2] = 1
    path = picture(tmp_path / "a.png", channels)
    with pytest.raises(InputError, match="hold colours; give a number for each label"):
        read_labels(path)
    mask = read_mask(path).values[0, 0]
    assert torch.equal(mask, torch.from_numpy(channels[..., 2] > 0))


def test_luminance_weights_sum_to_one_and_transparent_is_black() -> None:
    white = colours_of(np.full((2, 2, 4), 255, np.uint8))
    assert white is not None
    np.testing.assert_allclose(luminance(white), 255, rtol=1e-6)
    white["A"][0] = 0
    np.testing.assert_allclose(luminance(white), [[0, 0], [255, 255]], rtol=1e-6)
    np.testing.assert_array_equal(opacity(white), [[0, 0], [1, 1]])
