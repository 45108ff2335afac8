"""What is dark and what is bright, in images of any units and with any surroundings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stn3d.intensity import limits, scaled
from tests.geometry_cases import DIMS, uniform


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
