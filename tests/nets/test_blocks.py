"""Padding and resampling of small images and displacement fields."""

from __future__ import annotations

import pytest
import torch

from stn3d.errors import InputError
from stn3d.nets.blocks import resize_displacement
from stn3d.nets.cascade import pair_transformer
from stn3d.nets.coordinates import CoordinateRegressor
from tests.helpers.networks import (
    pyramid,
    randomised,
)


@pytest.mark.parametrize("d", [2, 3])
def test_images_of_a_few_voxels_are_padded_or_are_an_error(d: int) -> None:
    pair = torch.rand(1, 2, *(3,) * d)
    assert randomised(pyramid(d))(pair).shape == (1, d, *(3,) * d)
    assert CoordinateRegressor(d, channels=(4, 6, 8))(pair[:, :1]).shape == (1, d + 1, *(2,) * d)
    with pytest.raises(InputError, match="too small for 4 levels"):
        pair_transformer("affine", spatial_dims=d).transform(pair)


def test_a_coarse_displacement_is_resized_to_the_full_grid() -> None:
    # a level of half the size, padded at the end: 4 voxels for 7
    coarse = torch.full((1, 2, 4, 4), 1.5)
    assert torch.equal(resize_displacement(coarse, (7, 8)), torch.full((1, 2, 7, 8), 3.0))
    assert resize_displacement(torch.zeros(1, 2, 8, 8), (7, 8)).shape == (1, 2, 7, 8)
