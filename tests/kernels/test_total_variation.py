"""Total variation: the reference, and solutions that are known."""

from __future__ import annotations

import pytest
import torch

from stn3d import kernels
from stn3d.kernels.total_variation import reference
from tests.helpers.geometry_cases import random
from tests.kernels.cases import DTYPES, SHAPES, assert_near, strided


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_total_variation_equals_the_reference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    field = strided(random(1, len(shape), *shape)).to(dtype)
    found = kernels.total_variation_smooth(field, 0.4, 7)
    assert_near(found, reference.total_variation_smooth(field, 0.4, 1 / 12, 7))


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_jump_stays_and_loses_the_height_that_is_known(ndim: int) -> None:
    """A step of height h between halves of n voxels keeps ``h - 2 weight / n`` (Strong, Chan)."""
    n, weight, jump = 8, 0.5, 4.0
    field = torch.zeros(1, ndim, 2 * n, *[5] * (ndim - 1))
    field[:, 1, n:] = jump
    found = kernels.total_variation_smooth(field, weight, 3000)[0]
    expected = torch.where(torch.arange(2 * n) < n, weight / n, jump - weight / n)
    middle = found[1].flatten(1).T
    torch.testing.assert_close(middle, expected.expand_as(middle), rtol=0, atol=2e-3)
    assert float(found[0].abs().max()) < 1e-6


def test_a_weight_of_zero_changes_nothing() -> None:
    field = random(1, 3, 4, 5, 6)
    assert torch.equal(kernels.total_variation_smooth(field, 0, 10), field)
