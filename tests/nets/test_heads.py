"""Heads: scale of the parameters, precision."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from stn3d.nets import (
    HeadKind,
    Localisation,
    ParameterHead,
    SpatialTransformer,
    voxel_points,
)
from stn3d.nets.heads import ParameterKind
from tests.helpers.networks import (
    SHAPES,
    image_of,
    transformer,
)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", get_args(ParameterKind))
def test_a_parameter_of_one_moves_the_border_by_about_a_tenth(kind: ParameterKind, d: int) -> None:
    torch.manual_seed(0)
    head = ParameterHead(kind, d, 5, hidden=0, pool_size=0)
    image = image_of(d, 1)
    for at in range(min(head.parametrisation.num_params, 12)):
        with torch.no_grad():
            head.layers[-1].bias.zero_()
            head.layers[-1].bias[at] = 1.0
        network = SpatialTransformer(Localisation(nn.Flatten(), _Given(head)))
        gap = (network.transform(image)(voxel_points(image)) - voxel_points(image)).abs()
        most = float((gap.detach() / torch.tensor(SHAPES[d])).max())
        assert 0.02 < most < 0.45


class _Given(nn.Module):
    """A head that ignores the features."""

    def __init__(self, head: ParameterHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: list[Tensor], grid: Any) -> Any:
        return self.head([torch.zeros(len(features[-1]), 5)], grid)


@pytest.mark.parametrize("head", ["affine", "projective", "thin_plate_spline", "b_spline"])
def test_autocast_does_not_change_the_coordinates(head: HeadKind) -> None:
    """Under autocast the encoder uses bfloat16, the coordinates do not."""
    network, image = transformer(head), image_of(2)
    with torch.no_grad():
        network.localisation.head.layers[-1].bias.fill_(0.3)
    exact = network(image)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(image)
    assert rough.dtype == torch.float32
    assert torch.equal(rough, exact)
