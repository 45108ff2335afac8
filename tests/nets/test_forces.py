"""The local correlation force."""

from __future__ import annotations

import pytest
import torch

from stn3d.losses import lncc
from stn3d.nets.forces import correlation_force
from stn3d.sampler import sample_displaced
from tests.helpers.networks import (
    blob,
)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("contrast", [1.0, -0.7])
def test_the_force_increases_the_similarity_for_any_contrast(d: int, contrast: float) -> None:
    shape, centre = (17, 16, 15)[:d], (8.0, 7.5, 7.0)[:d]
    moving = blob(shape, (centre[0] + 0.4, centre[1] - 0.3, *centre[2:]))
    fixed = 0.8 + contrast * blob(shape, centre)
    force = correlation_force(fixed, moving)
    assert force.norm(dim=1).max() <= 0.5
    nearer = sample_displaced(moving, force)
    gain = lncc(fixed, moving) - lncc(fixed, nearer)
    assert gain > 0.3 * (lncc(fixed, moving) - lncc(fixed, blob(shape, centre)))


def test_the_force_is_zero_in_constant_images() -> None:
    flat, image = torch.full((1, 1, 9, 8), 0.7), torch.rand(1, 1, 9, 8)
    assert correlation_force(flat, image).abs().max() < 1e-3
    assert not correlation_force(image, flat).any()
