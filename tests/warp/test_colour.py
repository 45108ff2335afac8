"""Colours from moving to fixed space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.io.colours import channels_of, colours_of
from stn3d.transforms import Affine, Rigid, Translation
from stn3d.warp.colour import outside_colour, warp_colours
from tests.helpers import sitk_reference as reference
from tests.preprocessing.test_colour import packed, section

GRID = Grid.of_spacing((12, 10))


def colours(count: int, dtype: Any) -> Any:
    rng = np.random.default_rng(0)
    found = colours_of(rng.integers(0, np.iinfo(dtype).max + 1, (12, 10, count)).astype(dtype))
    assert found is not None
    return found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_channel_is_warped_as_simpleitk_does(dtype: Any) -> None:
    given = colours(3, dtype)
    rigid = Rigid(torch.tensor([0.2, 1.3, -0.7]).double(), GRID.centre_mm)
    moved = warp_colours(given, GRID, rigid, GRID, fill=0)
    assert moved.dtype == given.dtype
    by_itk = reference.rigid(rigid.parameters[:1], rigid.parameters[1:], GRID.centre_mm)
    for name in "RGB":
        values = torch.from_numpy(given[name].astype(np.float32))[None, None]
        image = reference.image_of(values, GRID)
        expected = reference.resampled(image, GRID, by_itk, sitk.sitkLinear, 0.0).numpy()
        gap = np.abs(moved[name].astype(np.float64) - expected.reshape(GRID.shape))
        assert float(gap.max()) <= 0.51  # rounded to whole numbers


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("how", ["linear", "nearest", "cubic"])
def test_the_identity_keeps_opaque_colours(count: int, how: Any) -> None:
    given = colours(count, np.uint16)
    if count == 4:
        given["A"] = 65535
    moved = warp_colours(given, GRID, Affine.identity(2), GRID, how)
    np.testing.assert_array_equal(moved, given)


def test_transparent_colours_do_not_bleed() -> None:
    channels = np.zeros((12, 10, 4), np.uint8)
    channels[:6] = (10, 200, 30, 255)
    channels[6:] = (255, 0, 255, 0)  # hidden
    half = Translation(torch.tensor([0.5, 0.0]), torch.zeros(2))
    moved = channels_of(warp_colours(packed(channels), GRID, half, GRID))
    np.testing.assert_array_equal(moved[5, 4, :3], (10, 200, 30))
    assert abs(int(moved[5, 4, 3]) - 128) <= 1
    assert (moved[7:, :, 3] == 0).all()


def test_outside_is_the_bright_background_or_black_or_transparent() -> None:
    slide = packed(section())
    assert all(230 < value < 240 for value in outside_colour(slide, "auto"))
    assert outside_colour(packed(255 - section()), "auto") == [0, 0, 0]
    assert outside_colour(packed(section(alpha=True)), "auto") == [0, 0, 0, 0]
    assert outside_colour(slide, 255) == [255] * 3
    away = Translation(torch.tensor([100.0, 0.0]), torch.zeros(2))
    grid = Grid.of_spacing((40, 40))
    moved = channels_of(warp_colours(slide, grid, away, grid))
    assert (np.ptp(moved.reshape(-1, 3), axis=0) == 0).all()
    assert moved.min() > 230


@pytest.mark.parametrize("fill", ["nan", 256, -1])
def test_a_fill_beyond_the_range_is_refused(fill: Any) -> None:
    with pytest.raises(InputError, match="cannot be filled with"):
        outside_colour(packed(section()), fill)
