"""Recurrent spatial transformers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stn3d.nets import (
    Recurrence,
    RecurrentKeypointLocalisation,
    RecurrentLocalisation,
    RecurrentTransformer,
    TimeDistributed,
    fcn_encoder,
    map_encoder,
    voxel_points,
    warp_tensor,
)
from stn3d.transforms import Affine
from tests.helpers.networks import (
    SHAPES,
    image_of,
    randomised,
)


@pytest.mark.parametrize("d", [2, 3])
def test_a_recurrent_transformer_gives_one_image_for_each_step(d: int) -> None:
    torch.manual_seed(0)
    encoder = fcn_encoder(SHAPES[d], 1, (12,))
    localisation = RecurrentLocalisation(encoder, 12, Recurrence(3, 8, spatial_dims=d))
    network, image = RecurrentTransformer(localisation, (8,) * d), image_of(d)
    at_birth = network(image)
    assert at_birth.shape == (2, 3, 1, *(8,) * d)
    assert torch.equal(at_birth[:, 0], at_birth[:, 2])
    zoomed = RecurrentTransformer(localisation, (8,) * d, crop_fraction=0.5)(image)[:, 0]
    assert torch.equal(zoomed, warp_tensor(image, Affine.identity(d), (8,) * d, 0.5))
    assert not torch.equal(zoomed, at_birth[:, 0])
    seen = randomised(network)(image)
    assert not torch.equal(seen[:, 0], seen[:, 1])
    reader = TimeDistributed(nn.Sequential(nn.Flatten(), nn.Linear(8**d, 10)))
    assert reader(seen).shape == (2, 3, 10)
    assert torch.allclose(reader(seen)[:, 1], reader.network(seen[:, 1]))
    reader(seen).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in localisation.parameters())


def test_recurrent_keypoints_are_initialised_to_the_identity() -> None:
    torch.manual_seed(0)
    encoder = map_encoder(1, 4, (3, 3), (3, 3))
    localisation = RecurrentKeypointLocalisation(encoder, 4, Recurrence(3, 8))
    image = torch.rand(2, 1, 14, 18)
    points = voxel_points(image)
    for transform in localisation(image):
        torch.testing.assert_close(transform(points), points.expand(2, -1, -1, -1))
    for parameter in localisation.head.parameters():
        nn.init.normal_(parameter)
    first, second, third = (transform(points) for transform in localisation(image))
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)
    assert encoder(image).shape == (2, 4, 7, 9)
