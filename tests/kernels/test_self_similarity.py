"""MIND-SSC: the reference."""

from __future__ import annotations

import pytest
import torch

from stn3d import kernels
from stn3d.kernels.self_similarity import reference
from tests.helpers.geometry_cases import random
from tests.kernels.cases import (
    DTYPES,
    SHAPES,
    strided,
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("radius", "dilation"), [(1, 2), (0, 1), (2, 1)])
def test_self_similarity_equals_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, radius: int, dilation: int
) -> None:
    image = random(2, 3, *shape).to(dtype)
    noise = torch.tensor([[1e-3, 1.0, 0.1], [0.5, 1e-2, 1e-9]])
    expected = reference.self_similarity(image, noise, radius, dilation)
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {}
    for one in (image, strided(image), image.clone().requires_grad_()):
        found = kernels.self_similarity(one, noise, radius, dilation)
        assert found.requires_grad == one.requires_grad
        torch.testing.assert_close(found.detach(), expected, **close)
