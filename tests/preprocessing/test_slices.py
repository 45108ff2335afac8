"""Thick slices that were interpolated to small voxels: how thick, and the image on them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from stn3d.grid import Grid
from stn3d.preprocessing.prepared import ChannelGroup, PreparedImage
from stn3d.preprocessing.slices import on_slices, slices_grid
from tests.helpers.geometry_cases import make_grid
from tests.helpers.images import half_mask, noise
from tests.helpers.slices import SHAPE, How, acquired, at_places, interpolated, texture


def image_of(values: Tensor, spacing_mm: float | tuple[float, ...] = 1.0) -> PreparedImage:
    return PreparedImage(values, Grid.of_spacing(values.shape[2:], spacing_mm))


def thick(
    axis: int = 0, thickness: int = 3, how: How = "lines", noisy: float = 0.02, count: int = 0
) -> Tensor:
    """Slices with noise, interpolated to ``count`` voxels, by default those of the texture."""
    shape = [count if count and a == axis else n for a, n in enumerate(SHAPE)]
    slices = acquired(texture(tuple(shape), seed=axis), axis, thickness)
    slices = slices + noisy * noise(*slices.shape, seed=5).float()
    return interpolated(slices, axis, shape[axis], how)


# -- thickness ------------------------------------------------------------------------------------


def spacing_vox(values: Tensor) -> list[float]:
    """Distance of the slices along each axis of voxels of 1 mm."""
    return list(slices_grid(image_of(values)).spacing_mm)


@pytest.mark.parametrize("how", ["lines", "splines"])
@pytest.mark.parametrize("noisy", [0.0, 0.02, 0.05])
@pytest.mark.parametrize(
    ("axis", "count", "thickness"), [(0, 48, 3), (1, 84, 6), (2, 60, 5), (0, 48, 2)]
)
def test_the_slices_are_found(
    axis: int, count: int, thickness: int, noisy: float, how: How
) -> None:
    expected = [1.0, 1.0, 1.0]
    expected[axis] = thickness
    values = thick(axis, thickness, how, noisy, count)
    assert spacing_vox(values) == pytest.approx(expected)
    assert slices_grid(image_of(values)).shape[axis] == count // thickness


@pytest.mark.parametrize("how", ["lines", "splines"])
@pytest.mark.parametrize(("voxels", "count"), [(72, 40), (60, 24), (84, 24)])
def test_voxels_that_do_not_divide_the_slices(voxels: int, count: int, how: How) -> None:
    stack = acquired(texture((120, 40, 40), seed=3), 0, 120 // count)
    stack = stack + 0.02 * noise(*stack.shape, seed=5).float()
    assert spacing_vox(interpolated(stack, 0, voxels, how))[0] == pytest.approx(voxels / count)


@pytest.mark.parametrize("how", ["lines", "splines"])
@pytest.mark.parametrize("last", ["the last slice", "beyond"])
def test_voxels_from_the_centre_of_the_first_slice_on(last: str, how: How) -> None:
    """As tools do that keep the origin, or the centres of both ends."""
    stack = acquired(texture((120, 40, 40), seed=3), 0, 5)
    stack = stack + 0.02 * noise(*stack.shape, seed=5).float()
    step = 23 / 57 if last == "the last slice" else 0.4
    values = at_places(stack, 0, np.arange(58) * step, how)
    grid = slices_grid(image_of(values))
    assert grid.spacing_mm[0] == pytest.approx(1 / step, rel=2e-3)
    assert float(grid.world_from_index[0, 3]) == pytest.approx(0, abs=1e-9)


@given(
    st.permutations([0, 1, 2]),
    st.sampled_from([0.01, 1.0, 40.0]),
    st.floats(0.1, 1.0),
    st.sets(st.sampled_from([2, 3, 4])),
)
@settings(max_examples=15, deadline=None)
def test_neither_units_nor_the_order_of_axes_matter(
    order: list[int], unit_mm: float, factor: float, flips: set[int]
) -> None:
    turned = thick().permute(0, 1, *[a + 2 for a in order]).flip(tuple(flips)).contiguous()
    turned = (turned - 0.05) * factor + 0.06  # all of it stays brighter than a background
    found = slices_grid(image_of(turned, unit_mm)).spacing_mm
    assert found == pytest.approx([3 * unit_mm if a == 0 else unit_mm for a in order])


def test_slices_that_were_interpolated_to_thinner_ones() -> None:
    thin, spacing_mm = texture((48, 44, 160)), (1.0, 1.0, 2.0)
    native = image_of(acquired(thin, 2, 2), spacing_mm)  # slices of 2 mm
    assert slices_grid(native) is native.grid
    slices = interpolated(acquired(thin, 2, 8), 2, 80, "splines")  # slices of 8 mm
    assert slices_grid(image_of(slices, spacing_mm)).spacing_mm == pytest.approx((1, 1, 8))


def sharp() -> PreparedImage:
    return image_of(texture())


def blurrier() -> PreparedImage:
    """Along one axis, but not interpolated, so there is some noise."""
    values = torch.from_numpy(gaussian_filter(texture().numpy(), (0, 0, 1.5, 0, 0)))
    return image_of(values + 0.02 * noise(*values.shape, seed=2).float())


def drawn_out() -> PreparedImage:
    """The same all along an axis, but for noise."""
    still = texture()[..., 20:21].expand(1, 1, *SHAPE)
    return image_of(still + 0.02 * noise(*still.shape, seed=2).float())


def blurred() -> PreparedImage:
    """As templates and PET: the axis is blurrier, but no axis is sharp."""
    slices = torch.from_numpy(gaussian_filter(texture().numpy(), (0, 0, 4, 2, 2)))
    return image_of(slices)


def native_slices() -> PreparedImage:
    return image_of(acquired(texture(), 1, 3), (1.0, 3.0, 1.0))


def fine_in_plane() -> PreparedImage:
    """Thick slices whose voxels are smaller than what they show, along both axes."""
    values = gaussian_filter(acquired(texture(), 2, 5).numpy(), (0, 0, 0.7, 0.7, 0))
    return image_of(torch.from_numpy(values), (0.5, 0.5, 5.0))


def few_slices() -> PreparedImage:
    return image_of(thick()[:, :, :12])


def two_dimensional() -> PreparedImage:
    return image_of(thick()[..., 30])


def single_slice() -> PreparedImage:
    return image_of(thick()[..., 30:31])


def empty() -> PreparedImage:
    return image_of(torch.zeros(1, 1, *SHAPE))


def too_small_a_mask() -> PreparedImage:
    image = image_of(thick())
    mask = torch.zeros_like(image.image)
    mask[..., 20:28, 20:28, 20:28] = 1
    return replace(image, mask=mask)


def labels() -> PreparedImage:
    """The contrast is sharp; labels alone repeat slices."""
    both = torch.cat([texture(), thick()], dim=1)
    groups = ChannelGroup(1.0), ChannelGroup(1.0, labels=True)
    return replace(image_of(both), channel_groups=groups)


def a_sharp_channel() -> PreparedImage:
    both = torch.cat([thick(), texture()], dim=1)
    return replace(image_of(both), channel_groups=(ChannelGroup(1.0), ChannelGroup(0.5)))


OTHERS = (
    *(
        sharp,
        blurred,
        blurrier,
        drawn_out,
        native_slices,
        fine_in_plane,
        few_slices,
        two_dimensional,
        single_slice,
    ),
    *(empty, too_small_a_mask, labels, a_sharp_channel),
)


@pytest.mark.parametrize("make", OTHERS)
def test_other_images_stay_as_they_are(make: Callable[[], PreparedImage]) -> None:
    image = make()
    assert slices_grid(image) is image.grid
    assert on_slices(image) is image


# -- the image on its slices ----------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("how", ["lines", "splines"])
def test_the_slices_show_what_the_image_shows(axis: int, how: How) -> None:
    values = thick(axis, how=how)
    grid = make_grid(SHAPE, (1.0, 1.1, 0.9), (10.0, 20.0, -5.0))
    found = on_slices(PreparedImage(values, grid))
    assert found.image.shape[2:] == found.grid.shape
    assert [a for a in range(3) if found.grid.shape[a] != SHAPE[a]] == [axis]
    assert found.grid.size_mm == pytest.approx(grid.size_mm)
    assert torch.allclose(found.grid.centre_mm, grid.centre_mm)
    again = interpolated(found.image, axis, SHAPE[axis], "splines")
    inner = (slice(None),) * 2 + (slice(4, -4),) * 3
    assert float((again - values)[inner].std()) < 0.1 * float(texture().std())


def test_slices_that_a_mask_excludes_do_not_reach_beyond_it() -> None:
    values = thick()
    mask = half_mask(SHAPE)
    outside = torch.where(mask > 0, values, 5 * noise(1, 1, *SHAPE, seed=8).float().abs())
    first, second = (on_slices(replace(image_of(one), mask=mask)) for one in (values, outside))
    assert first.mask is not None
    assert second.mask is not None
    assert first.grid.shape == second.grid.shape != SHAPE
    assert torch.equal(first.mask, second.mask)
    assert set(first.mask.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(first.image * first.mask, second.image * second.mask, atol=0.05)
    assert 0.65 < float(first.mask.mean()) <= 0.75


def test_channels_and_labels_follow_the_contrasts() -> None:
    together = torch.cat([thick(), thick(noisy=0.05), (thick() > 0.5).float()], dim=1)
    groups = ChannelGroup(1.0), ChannelGroup(0.5), ChannelGroup(1.0, labels=True)
    found = on_slices(replace(image_of(together), channel_groups=groups))
    assert found.channel_groups == groups
    assert found.image.shape == (1, 3, *found.grid.shape)
    assert found.grid.shape == (SHAPE[0] // 3, *SHAPE[1:])
