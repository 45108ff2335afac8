"""PNG and TIFF files as outputs: values, pixel size, and what they cannot hold."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io import GeometryWarning, read_image, write_colours, write_image, write_volumes
from stn3d.io.colours import channels_of
from tests.io.test_colours import picture, some_colours

SUFFIXES = (".png", ".tif", ".tiff", ".PNG")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pictures_keep_colours_and_pixel_size(
    tmp_path: Path, suffix: str, count: int, dtype: Any
) -> None:
    channels = some_colours(count, dtype, 7, 6)
    given = sitk.ReadImage(str(picture(tmp_path / "a.tif", channels)))
    given.SetSpacing((0.0005, 0.25))  # 0.5 um, as in histology
    sitk.WriteImage(given, str(tmp_path / "a.tif"))
    like = read_image(tmp_path / "a.tif")
    assert like.colours is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_colours(tmp_path / f"b{suffix}", [like.colours], like)
    by_itk = sitk.ReadImage(str(tmp_path / f"b{suffix}"))
    np.testing.assert_array_equal(np.transpose(sitk.GetArrayFromImage(by_itk), (1, 0, 2)), channels)
    np.testing.assert_allclose(by_itk.GetSpacing(), (0.0005, 0.25), rtol=1e-6)
    again = read_image(tmp_path / f"b{suffix}")
    assert again.colours is not None
    np.testing.assert_array_equal(channels_of(again.colours), channels)
    matrices = again.grid.world_from_index, like.grid.world_from_index
    np.testing.assert_allclose(*matrices, rtol=1e-5)


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", np.uint8), (".tif", np.float32)])
def test_grey_values_are_rounded_to_the_data_type(tmp_path: Path, suffix: str, dtype: Any) -> None:
    values = torch.tensor([[-3.0, 0.4], [0.6, 254.6], [300.0, 7.0]])
    like = read_image((torch.rand(3, 2), Grid.of_spacing((3, 2), 0.5)))
    with pytest.warns(GeometryWarning, match="(PNG|TIFF) files keep the pixel size, but neither"):
        write_image(tmp_path / f"a{suffix}", values[None, None], like, np.dtype(dtype))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"a{suffix}"))).T
    expected = [[0, 0], [1, 255], [255, 7]] if dtype == np.uint8 else values.numpy()
    np.testing.assert_array_equal(found, np.asarray(expected, dtype))


def test_what_a_picture_cannot_hold_is_refused(tmp_path: Path) -> None:
    flat = read_image((torch.rand(3, 2), Grid.of_spacing((3, 2), 0.5)))
    solid = read_image((torch.rand(3, 2, 2), Grid.of_spacing((3, 2, 2), 0.5)))
    cases: dict[str, tuple[Any, Any, str]] = {
        "a.png": (
            flat,
            np.float32,
            "a PNG file cannot hold float32 values; write .tif or",
        ),
        "b.tif": (flat, np.float64, "a TIFF file cannot hold float64 values; write .nii.gz"),
        "c.tif": (solid, np.uint8, "TIFF files hold 2D images only; write a 3D image as .nii.gz"),
        "d.jpg": (flat, np.uint8, r"use one of the extensions .*\.png, \.tif"),
    }
    for name, (like, dtype, message) in cases.items():
        with pytest.raises(InputError, match=message):
            write_image(tmp_path / name, like.values, like, np.dtype(dtype))
    assert list(tmp_path.iterdir()) == []


def test_steps_of_a_volume_have_the_slope_of_the_header(tmp_path: Path) -> None:
    """As nibabel and SimpleITK read them."""
    values = torch.tensor([0.0, 100, 254.6, 300])[None, None, :, None, None].expand(1, 1, 4, 3, 2)
    image = read_image((values, Grid.of_spacing((4, 3, 2), 2.0)))
    path = tmp_path / "steps.nii.gz"
    write_volumes(path, [values.contiguous()], image, np.dtype(np.uint8), slope=1 / 255)
    expected = np.array([0, 100, 255, 255]) / 255
    assert nib.load(path).get_data_dtype() == np.uint8
    assert np.allclose(nib.load(path).get_fdata()[:, 0, 0], expected)
    assert np.allclose(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0, 0], expected)
