"""What is dark and what is bright, in images of any units and with any surroundings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stn3d.errors import InputError
from stn3d.preprocessing.intensity import WINDOWS_HU, limits, looks_like_ct, scaled, shows_bone
from tests.helpers.geometry_cases import DIMS, uniform


def filled(ndim: int, fill: float, background: float) -> tuple[Tensor, Tensor]:
    """An image whose corners lie beyond the field of view, and where they do."""
    n = 48 if ndim == 2 else 24
    along = (torch.arange(n) - (n - 1) / 2).abs()
    steps = sum(torch.meshgrid(*[along] * ndim, indexing="ij"))
    beyond = steps > (0.75 if ndim == 2 else 1.05) * n
    inside = steps < 0.3 * n
    noise = uniform(0, 1, *steps.shape).float()
    image = torch.full(steps.shape, background)
    image[inside] += 50 + 100 * noise[inside]
    image[beyond] = fill + 0.1 * noise[beyond]
    return image[None, None], beyond[None, None]


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize(("fill", "background"), [(-80.0, 0.0), (-3024.0, -1000.0)])
def test_a_fill_beyond_the_field_of_view_is_background(
    ndim: int, fill: float, background: float
) -> None:
    image, beyond = filled(ndim, fill, background)
    assert 0.05 < float(beyond.float().mean()) < 0.4
    plain = torch.where(beyond, background, image)
    assert torch.equal(scaled(image), scaled(plain))
    assert limits(image)[0] == background


@pytest.mark.parametrize("ndim", DIMS)
def test_only_a_level_without_noise_counts_as_background_above_a_fill(ndim: int) -> None:
    image, beyond = filled(ndim, -80.0, 0.0)
    # tissue around a darker background: as much of it as the flat level above, but not flat
    tissue = torch.where(beyond, image, image + 5 * uniform(1, 2, *image.shape).float())
    assert limits(tissue)[0] < -79
    # the corners are not darker: nothing was filled
    assert limits(image.masked_fill(beyond, 0.0).where(image >= 0, image - 20))[0] <= 0


def test_a_bright_flat_object_is_no_background() -> None:
    image = torch.zeros(1, 1, 30, 30)
    image[..., 3:27, 3:27] = 7.0
    assert limits(image) == (0.0, 7.0)
    dark = 7.0 - image
    assert limits(dark) == (0.0, 7.0)


def test_a_mask_that_leaves_little_out_tells_what_counts() -> None:
    image = uniform(0, 1, 1, 2, 20, 20).float()
    mask = torch.ones(1, 1, 20, 20, dtype=torch.bool)
    mask[..., :4] = False
    hot = torch.where(mask, image, 1e4)
    assert limits(hot, mask) == limits(image, mask) != limits(image)
    few = torch.zeros_like(mask)
    few[..., :2] = True
    assert limits(hot, few) == limits(hot)


# -- CT -------------------------------------------------------------------------------------------


def a_ct(ndim: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A body on a table, in HU with some noise, and where its parts are."""
    n = 64 if ndim == 2 else 40
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n)] * ndim, indexing="ij")
    out = torch.stack([x / r for x, r in zip(axes, (0.62, 0.55, 0.7), strict=False)])
    out = torch.linalg.vector_norm(out, dim=0)
    hollow = torch.linalg.vector_norm(torch.stack([axes[0] - 0.15, *axes[1:]]), dim=0)
    parts = {
        "table": (axes[1] > 0.72) & (axes[1] < 0.86),
        "bone": (out < 0.95) & (out > 0.78),
        "soft": (out < 0.75) & (hollow > 0.3),
        "lung": hollow < 0.24,
        "air": (out > 1.15) & (axes[1] < 0.65),
    }
    image = torch.full(out.shape, -1000.0)
    image[out < 1] = 40.0
    for name, hu in (("bone", 700.0), ("lung", -870.0), ("table", 150.0)):
        image[parts[name]] = hu
    image += 15 * uniform(-1, 1, *out.shape, seed=4).float()
    return image[None, None], parts


@pytest.mark.parametrize("ndim", DIMS)
def test_of_a_ct_the_body_is_left(ndim: int) -> None:
    image, parts = a_ct(ndim)
    assert looks_like_ct(image)
    inner = scaled(image)
    assert inner.dtype == image.dtype
    assert inner.shape == image.shape
    value = {name: inner[0, 0][part] for name, part in parts.items()}
    assert float(value["air"].max()) == 0
    assert float(value["table"].max()) == 0  # though as bright as tissue
    assert 0 < float(value["lung"].mean()) < 0.1  # air within the body is no outer air
    assert float(value["lung"].max()) < 0.15 < 0.3 < float(value["soft"].min())
    assert float(value["soft"].max()) < float(value["bone"].min()) <= float(value["bone"].max()) < 1


@pytest.mark.parametrize("ndim", DIMS)
def test_within_the_body_brighter_in_hu_is_brighter(ndim: int) -> None:
    image, parts = a_ct(ndim)
    hu = torch.linspace(-990, 1490, int(parts["soft"].sum()))
    image[0, 0][parts["soft"]] = hu
    image[0, 0][parts["air"]] = -1000.0
    inner = scaled(image)[0, 0]
    seen = inner[parts["soft"]]
    solid = hu > -300  # what is thinner may lie open to the outside
    assert bool((seen[solid].diff() > 0).all())
    soft = (hu > -200) & (hu < 300)  # half a thousand HU of nearly four get most of the range
    assert float(seen[soft].max() - seen[soft].min()) > 0.6


@pytest.mark.parametrize("ndim", DIMS)
def test_what_is_no_ct(ndim: int) -> None:
    image, parts = a_ct(ndim)
    assert not looks_like_ct(image + 1024)  # stored without its offset
    assert not looks_like_ct(image.abs())
    assert not looks_like_ct(image.expand(-1, 2, *image.shape[2:]))
    assert not looks_like_ct(torch.where(parts["air"], image, image - 900))  # no soft tissue
    assert not looks_like_ct(uniform(0, 100, *image.shape).float())


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("window", WINDOWS_HU)
def test_a_window_by_name_is_its_two_numbers(ndim: int, window: str) -> None:
    image, _ = a_ct(ndim)
    low, high = WINDOWS_HU[window]  # type: ignore[index]
    inner = scaled(image, window=window)
    torch.testing.assert_close(inner, ((image - low) / (high - low)).clamp(0, 1))
    assert torch.equal(inner, scaled(image, window=f"{low},{high}"))


def test_a_window_in_own_units_fits_any_image() -> None:
    image = torch.tensor([[[[-5.0, 0.0, 5.0, 10.0, 20.0, 30.0]]]])
    assert scaled(image, window="0, 20")[0, 0, 0].tolist() == [0, 0, 0.25, 0.5, 1, 1]
    assert scaled(image, window="-5,-1")[0, 0, 0].tolist() == [0, 1, 1, 1, 1, 1]


def test_a_named_window_is_for_ct_alone() -> None:
    image = uniform(0, 900, 1, 1, 20, 20).float()
    with pytest.raises(InputError, match="window head is for CT in HU, and this image is none"):
        scaled(image, window="head")


@pytest.mark.parametrize(
    "window", ["brain", "", "5", "5,5", "9,5", "1,2,3", "a,b", "nan,3", "0,inf", "-inf,0", "head,"]
)
def test_a_bad_window_is_told(window: str) -> None:
    image, _ = a_ct(2)
    with pytest.raises(InputError, match="LOW,HIGH or one of head, lung, abdomen, bone") as caught:
        scaled(image, window=window)
    assert repr(window) in str(caught.value)


def test_scaled_does_not_depend_on_units() -> None:
    image = uniform(0, 1, 1, 1, 20, 20).float()
    for scale, offset in ((1700, -5000), (1700, 0), (0.01, 3)):  # in none of which it looks like CT
        assert torch.allclose(scaled(image), scaled(scale * image + offset), atol=1e-4)


def test_scaled_reaches_from_0_to_1_and_cuts_off_at_a_quarter_more() -> None:
    image = uniform(0, 1, 1, 1, 40, 40).float()
    image[0, 0, 0, :3] = 1e6  # a few hot pixels
    result = scaled(image)
    assert float(result.min()) == 0
    assert float(result.max()) == 1.25
    assert 0.45 < float(result.median()) < 0.55


@pytest.mark.parametrize("background", [0.0, 300.0, -1024.0])
def test_background_becomes_0_whatever_it_was(background: float) -> None:
    image = torch.full((1, 1, 30, 30), background)
    image[..., 10:20, 10:20] += uniform(50, 100, 10, 10).float()
    result = scaled(image)
    assert float(result[0, 0, 0, 0]) == 0
    assert 0.4 < float(result[..., 10:20, 10:20].mean()) < 1


def test_scaled_of_nearly_constant_images_is_finite_and_not_flat() -> None:
    for background, spot in ((0.0, 1.0), (5.0, -2.0)):
        image = torch.full((1, 1, 30, 30), background)
        image[0, 0, 4, 4] += spot
        result = scaled(image)
        assert bool(torch.isfinite(result).all())
        assert float(result.max() - result.min()) >= 1
    assert bool((scaled(torch.full((1, 1, 4, 4), 7.0)) == 0).all())


def test_a_whole_head_shows_bone_and_a_stripped_brain_does_not() -> None:
    axes = torch.meshgrid(*[torch.linspace(-1, 1, 40)] * 3, indexing="ij")
    radius = torch.stack(axes).square().sum(0).sqrt()
    brain = torch.where(radius < 0.7, 35.0, -1024.0)
    head = torch.where((radius >= 0.7) & (radius < 0.75), 900.0, brain)
    assert shows_bone(head[None, None])
    assert not shows_bone(brain[None, None])
    assert not shows_bone(torch.full((1, 1, 4, 4, 4), -1024.0))
