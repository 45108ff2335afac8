"""Regions against masks."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stn3d.kernels import Region
from tests.helpers.geometry_cases import QUICK
from tests.kernels.cases import (
    dilated,
    hull,
)


@st.composite
def masks(draw: st.DrawFn) -> Tensor:
    """Any bool mask of 1 to 6 voxels along an axis, 2D or 3D."""
    shape = draw(st.lists(st.integers(1, 6), min_size=2, max_size=3))
    return torch.from_numpy(draw(hnp.arrays(bool, tuple(shape))))


@QUICK
@given(masks())
def test_a_region_of_a_mask_covers_each_row_from_first_to_last_voxel(mask: Tensor) -> None:
    region = Region.of(mask)
    assert torch.equal(region.mask(mask.shape), hull(mask))
    assert region.num_voxels == int(hull(mask).sum())
    assert (region.lengths.reshape(mask.shape[:-1]) == hull(mask).sum(dim=-1).numpy()).all()


@QUICK
@given(masks())
def test_the_full_region_contains_all_voxels(mask: Tensor) -> None:
    region = Region.full(mask.shape)
    assert bool(region.mask(mask.shape).all())
    assert region.num_voxels == mask.numel()


@QUICK
@given(masks(), st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_a_grown_region_is_the_dilation_of_the_mask(mask: Tensor, reach: list[int]) -> None:
    radii = tuple(reach[: mask.ndim])
    grown = Region.of(mask).grown(radii)
    assert torch.equal(grown.mask(mask.shape), hull(dilated(hull(mask), radii)))
    assert grown.num_voxels == int(grown.mask(mask.shape).sum())


@QUICK
@given(masks())
def test_a_region_without_faces_keeps_axes_of_one_voxel(mask: Tensor) -> None:
    region = Region.of(mask)
    before, expected = region.runs.copy(), hull(mask)
    for axis, n in enumerate(mask.shape):
        if n > 1:
            expected.select(axis, 0).zero_()
            expected.select(axis, -1).zero_()
    assert torch.equal(region.without_faces().mask(mask.shape), expected)
    assert (region.runs == before).all()
