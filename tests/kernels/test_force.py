"""The image force: the reference, and the change of a loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stn3d import kernels
from stn3d.kernels import Region
from stn3d.kernels.force import reference
from tests.helpers.geometry_cases import random
from tests.kernels.cases import (
    DTYPES,
    REGION_SHAPES,
    UNTOUCHED,
    assert_done_in,
    centred,
    ragged,
)


@pytest.mark.parametrize("shape", [*REGION_SHAPES, (3, 8, 9)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_force_equals_the_reference_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    d, region = len(shape), ragged(shape).without_faces()
    moved, by_moved = (random(1, 2, *shape, seed=s).to(dtype) for s in (0, 1))
    out = torch.full((1, d, *shape), UNTOUCHED).to(dtype)
    assert kernels.force(moved, by_moved, region, out) is out
    assert_done_in(
        region, d, out, reference.force(moved, by_moved, Region.full(shape), torch.empty_like(out))
    )


@pytest.mark.parametrize("d", [2, 3])
def test_force_is_the_gradient_by_a_step_before_the_transform(d: int) -> None:
    # moving(T(x + s)) for an affine T and a quadratic image: central differences are exact.
    grid, centre = centred(d, 9), random(d, seed=1, scale=2)
    linear = torch.eye(d, dtype=torch.float64) + random(d, d, seed=2, scale=0.3)
    step = random(d, *[9] * d, seed=3, scale=1e-6)

    def moved(points: Tensor) -> Tensor:
        through = torch.einsum("ab,b...->a...", linear, points)
        return ((through.movedim(0, -1) - centre) ** 2).sum(dim=-1)[None, None]

    by_moved, out = random(1, 1, *[9] * d, seed=4), torch.zeros(1, d, *[9] * d).double()
    inner = Region.full([9] * d).without_faces()
    kernels.force(moved(grid), by_moved, inner, out)
    gain = (by_moved * (moved(grid + step) - moved(grid)))[0, 0]
    expected = -(out[0] * step).sum(dim=0)
    seen = inner.mask([9] * d)
    torch.testing.assert_close(gain[seen], expected[seen], rtol=1e-3, atol=1e-9)
