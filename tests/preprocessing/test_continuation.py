"""Intensities continued where a mask excludes voxels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.preprocessing.continuation import continued, smooth_beyond
from stn3d.preprocessing.prepared import ChannelGroup, PreparedImage
from tests.helpers.geometry_cases import DIMS

SHAPE = (38, 33, 30)


def slope_with_a_hole(ndim: int, inside: float) -> tuple[Tensor, Tensor, Tensor]:
    """A slope, the same with other intensities in a ball, and where those are not."""
    shape = SHAPE[:ndim]
    places = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij")).float()
    slope = sum(w * p for w, p in zip((0.02, 0.01, -0.015), places, strict=False))
    assert isinstance(slope, Tensor)
    middle = torch.tensor([n / 2 for n in shape]).view(-1, *[1] * ndim)
    known = ((places - middle).norm(dim=0) > 5)[None, None]
    return slope[None, None], slope.where(known, torch.tensor(inside)), known


@pytest.mark.parametrize("ndim", DIMS)
def test_a_slope_goes_on_whatever_was_there(ndim: int) -> None:
    slope, spoilt, known = slope_with_a_hole(ndim, 9.0)
    found = smooth_beyond(spoilt, known)
    assert torch.equal(found[known], slope[known])
    assert float((found - slope).abs().max()) < 0.04  # it changes by 0.2 across the ball
    other = smooth_beyond(slope_with_a_hole(ndim, -3.0)[1], known)
    assert torch.allclose(found, other, atol=1e-5)


def test_masks_and_labels_stay_and_nothing_is_made_twice() -> None:
    slope, spoilt, known = slope_with_a_hole(3, 9.0)
    grid = Grid.of_spacing(SHAPE)
    groups = (ChannelGroup(1.0), ChannelGroup(1.0, labels=True))
    image = PreparedImage(torch.cat([spoilt, spoilt], 1), grid, known.float(), groups)
    found = continued(image)
    assert found is continued(image)
    assert found.mask is image.mask
    assert torch.equal(found.image[:, 1], image.image[:, 1])
    assert float((found.image[:, :1] - slope).abs().max()) < 0.04
    whole = PreparedImage(slope, grid)
    nothing = PreparedImage(slope, grid, torch.zeros_like(slope))
    assert continued(whole) is whole
    assert continued(nothing) is nothing
