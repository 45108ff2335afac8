"""The coordinate regressor."""

from __future__ import annotations

import pytest
import torch

from stn3d.nets.coordinates import CoordinateRegressor
from tests.helpers.networks import (
    SHAPES,
    randomised,
)


@pytest.mark.parametrize("d", [2, 3])
def test_a_coordinate_map_has_half_resolution_and_is_initialised_to_zero(d: int) -> None:
    network = CoordinateRegressor(d, channels=(4, 6, 8))
    image = torch.rand(2, 1, *SHAPES[d])
    output = network(image)
    assert output.shape == (2, d + 1, *[-(-n // 2) for n in SHAPES[d]])
    assert not output.any()
    randomised(network)(image).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    sizes = [u.shape[2] for u in network.stages(image)]
    assert sizes == [-(-SHAPES[d][0] // 4), 2 * -(-SHAPES[d][0] // 4)]
