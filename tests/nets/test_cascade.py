"""Cascades of spatial transformers for image pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stn3d.errors import InputError
from stn3d.nets.cascade import pair_transformer
from stn3d.nets.heads import HEADS
from stn3d.nets.spatial_transformer import voxel_points, warp_tensor
from tests.helpers.networks import blob, cascade, pair_of, randomised


@pytest.mark.parametrize("head", HEADS)
def test_a_pair_transformer_learns_to_align_a_blob(head: Any) -> None:
    torch.manual_seed(0)
    fixed, moving = blob((24, 24), (11.5, 11.5)), blob((24, 24), (13.5, 10.0))
    pair = torch.cat([fixed, moving], dim=1)
    network = pair_transformer(head, spatial_dims=2, channels=(4, 8), control_points=4)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    before = (moving - fixed).square().mean()
    for _ in range(60):
        loss = (network(moving, pair) - fixed).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1 * before
    # fixed to moving points: the centre of the blob moves by (2, -1.5)
    with torch.no_grad():
        displacement = network.transform(pair)(torch.tensor([[[11.5, 11.5]]])) - 11.5
    assert displacement[0, 0] == pytest.approx([2.0, -1.5], abs=0.5)


def test_a_cascade_composes_the_transforms_of_its_stages() -> None:
    network, pair = randomised(cascade(2), 0.05).eval(), pair_of(2)
    transforms = network.transforms(pair)
    assert len(transforms) == len(HEADS) + 1
    seen = warp_tensor(pair[:, 1:], transforms[-2])
    last = network.composed.transformers[-1]
    residual = last.transform(torch.cat([pair[:, :1], seen], dim=1))
    points = voxel_points(pair)
    assert torch.allclose(transforms[-1](points), transforms[-2](residual(points)), atol=1e-4)


def test_a_downsampled_stage_keeps_the_centre_in_place() -> None:
    stage = pair_transformer("affine", factor=2, spatial_dims=2, channels=(4,))
    stage.localisation.head.layers[-1].bias.data[:] = torch.tensor([1.0, 0, 0, 1.0, 0, 0])
    pair = torch.rand(1, 2, 8, 12)
    middle = torch.tensor([[[3.5, 5.5]]])
    assert torch.allclose(stage.transform(pair)(middle), middle, atol=1e-5)
    assert torch.allclose(stage.transform(pair)(middle + 1), middle + 1.2, atol=1e-5)


def test_an_unknown_head_is_an_error() -> None:
    with pytest.raises(InputError, match="affine"):
        pair_transformer("afine")  # type: ignore[arg-type]
