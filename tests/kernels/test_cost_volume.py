"""The cost volume: the reference and its gradients."""

from __future__ import annotations

import pytest
import torch

from stn3d import kernels
from stn3d.kernels.cost_volume import reference
from tests.helpers.geometry_cases import random
from tests.kernels.cases import (
    DTYPES,
    SHAPES,
    assert_alike,
    strided,
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("radius", [0, 1, 2])
def test_cost_volume_equals_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, radius: int
) -> None:
    inputs = [random(2, 3, *shape, seed=s).to(dtype).requires_grad_() for s in (0, 1)]
    plain = lambda a, b: reference.cost_volume(a, b, radius)  # noqa: E731
    assert_alike(lambda a, b: kernels.cost_volume(a, b, radius), plain, inputs)
    gaps = [strided(x).requires_grad_() for x in inputs]
    assert_alike(lambda a, b: kernels.cost_volume(a, b, radius), plain, gaps)
