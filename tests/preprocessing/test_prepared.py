"""Prepared images: pyramid, masks, channel groups, crops."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from stn3d.grid import Grid, apply_matrix
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import ChannelGroup, PreparedImage, bounding_box
from tests.helpers.geometry_cases import DIMS, oblique, random, uniform
from tests.helpers.synthetic import plain_grid


@pytest.mark.parametrize("ndim", DIMS)
def test_a_coarser_image_keeps_the_physical_domain_and_is_made_once(ndim: int) -> None:
    grid = oblique(ndim, (24, 20, 12)[:ndim])
    image = PreparedImage(random(1, 1, *grid.shape).float(), grid)
    coarse = image.at(4.0)
    assert coarse is image.at(4.0)
    assert image.at(0.1) is image
    assert torch.allclose(coarse.grid.centre_mm, grid.centre_mm)
    assert coarse.grid.size_mm == pytest.approx(grid.size_mm)
    assert all(s > 2.4 for s in coarse.grid.spacing_mm)
    assert coarse.image.shape[2:] == coarse.grid.shape


@pytest.mark.parametrize("ndim", DIMS)
def test_what_a_mask_leaves_out_does_not_leak_into_coarser_images(ndim: int) -> None:
    grid = plain_grid(ndim, 24)
    clean = uniform(0, 1, 1, 1, *grid.shape).float()
    mask = torch.ones_like(clean)
    mask[:, :, :9] = 0
    spoilt = torch.where(mask > 0, clean, 1.25)
    a, b = (PreparedImage(image, grid, mask).at(4.0) for image in (clean, spoilt))
    assert a.mask is not None
    counts = (a.mask > 1e-3).expand_as(a.image)
    assert torch.allclose(a.image[counts], b.image[counts], atol=1e-5)
    assert float(b.image[counts].max()) < 0.9  # a mean of numbers from 0 to 1, nothing of 1.25


def test_channel_groups_know_their_channels() -> None:
    image = torch.rand(1, 4, 12, 12, 12)
    groups = (ChannelGroup(1.0), ChannelGroup(0.5, 3, labels=True))
    whole = PreparedImage(image, plain_grid(3, 12), channel_groups=groups)
    assert [part.image.shape[1] for part in whole.groups] == [1, 3]
    assert whole.has_labels
    described = METRICS["mind"].prepared(whole)
    assert described.channel_groups is not None
    assert [group.channels for group in described.channel_groups] == [12, 3]
    assert torch.equal(described.image[:, 12:], image[:, 1:])  # labels have no descriptors
    first = Pair(whole, whole).first
    assert torch.equal(first.fixed.image, image[:, :1])
    assert not first.fixed.has_labels


def test_a_cached_value_is_made_once_and_not_shared_by_copies() -> None:
    image = PreparedImage(uniform(0, 1, 1, 1, 8, 8).float(), plain_grid(2, 8))
    made = [image.cached("key", lambda: object()) for _ in range(2)]
    assert made[0] is made[1]
    assert image.with_mask().cached("key", lambda: object()) is not made[0]
    calls = []

    def mean(values: Tensor, mask: Tensor | None, spacing_mm: Sequence[float]) -> float:
        calls.append(mask)
        return float(values.mean())

    assert image.statistic(mean) == image.statistic(mean) == float(image.image.mean())
    assert calls == [None]


def test_a_crop_may_reach_beyond_the_image() -> None:
    image = PreparedImage(uniform(1, 2, 1, 1, 8, 6).float(), Grid.of_spacing((8, 6), 2.0))
    part = image.with_mask().cropped((-2, 1), (5, 9))
    assert part.image.shape[2:] == part.grid.shape == (7, 8)
    assert torch.equal(part.image[..., 2:, :5], image.image[..., :5, 1:])
    assert float(part.image[..., :2, :].abs().max()) == 0
    assert part.mask is not None
    assert torch.equal(part.mask > 0, part.image > 0)
    here, there = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).double()
    expected = apply_matrix(image.grid.world_from_index, there)
    assert torch.allclose(apply_matrix(part.grid.world_from_index, here), expected)


def test_the_box_around_a_mask() -> None:
    mask = torch.zeros(5, 6, 7, dtype=torch.bool)
    assert bounding_box(mask) == ([0, 0, 0], [5, 6, 7])
    mask[1, 2, 3] = mask[3, 2, 4] = True
    assert bounding_box(mask) == ([1, 2, 3], [4, 3, 5])


def test_a_level_does_not_depend_on_those_made_before() -> None:
    image = torch.rand(1, 1, 40, 37, 33, generator=torch.Generator().manual_seed(0))
    grid = Grid.of_spacing((40, 37, 33), 1.0)
    near, far = 4.0, 4.11  # the same shape, by way of levels of different shapes
    assert grid.coarsened(near).shape == grid.coarsened(far).shape
    assert grid.coarsened(near / 2).shape != grid.coarsened(far / 2).shape
    alone, after = PreparedImage(image, grid), PreparedImage(image, grid)
    after.at(near)
    assert torch.equal(alone.at(far).image, after.at(far).image)
    assert torch.equal(alone.at(far).grid.world_from_index, after.at(far).grid.world_from_index)
    assert after.at(far) is after.at(far)
