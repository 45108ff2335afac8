"""The spatial softmax."""

from __future__ import annotations

import pytest
import torch

from stn3d.nets import (
    SpatialSoftmax,
)


@pytest.mark.parametrize("d", [2, 3])
def test_a_spatial_softmax_finds_the_maximum(d: int) -> None:
    shape = (9, 12, 7)[:d]
    maps = torch.zeros(2, 3, *shape)
    index = tuple(n // 3 for n in shape)
    maps[(1, 2, *index)] = 100.0
    points = SpatialSoftmax(3, d)(maps).unflatten(1, (3, d))
    expected = torch.tensor([(2 * i + 1) / n - 1 for i, n in zip(index, shape, strict=True)])
    torch.testing.assert_close(points[1, 2], expected)
    torch.testing.assert_close(points[0], torch.zeros(3, d), rtol=0, atol=1e-6)


def test_a_position_bias_selects_one_of_two_maxima() -> None:
    maps = torch.zeros(1, 1, 4, 11)
    maps[0, 0, 1, [2, 8]] = 50.0
    softmax = SpatialSoftmax(1, 2)
    assert abs(float(softmax(maps)[0, 1].detach())) < 1e-6  # between both
    first = softmax(maps, torch.tensor([[[0.0, -30.0]]]))
    torch.testing.assert_close(first, torch.tensor([[-0.25, 5 / 11 - 1]]))
