"""The aligned feature pyramid."""

from __future__ import annotations

import pytest
import torch

from stn3d.nets import (
    AlignedPyramid,
)
from tests.helpers.networks import (
    image_of,
    randomised,
)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_levels_of_a_pyramid_are_aligned_before_they_are_fused(shared: bool, d: int) -> None:
    torch.manual_seed(0)
    network = AlignedPyramid(d, 1, (4, 6, 8), 5, shared=shared)
    image = image_of(d, 1)
    levels = network(image)
    assert [level.shape[1] for level in levels] == [5, 5, 5]
    assert levels[0].shape[2:] == image.shape[2:]
    assert (network.transformers[0] is network.transformers[1]) == shared
    before = levels[0].detach()
    randomised(network.transformers, 0.3)
    assert not torch.allclose(network(image)[0], before)
    network(image)[0].square().sum().backward()
    # the gradient reaches the weights of the coarsest level
    assert all(p.grad is not None and p.grad.any() for p in network.lateral[-1].parameters())
    assert all(p.grad is not None and p.grad.any() for p in network.transformers.parameters())
