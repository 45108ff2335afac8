"""Sums over windows: SciPy and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from stn3d.kernels import box_sum
from tests.helpers.geometry_cases import random
from tests.kernels.cases import (
    SHAPES,
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [(0, 1, 2), (2, 2, 2), (9, 1, 30)])
def test_box_sum_is_a_convolution_with_ones(
    shape: tuple[int, ...], radius: tuple[int, ...]
) -> None:
    radii = radius[: len(shape)]
    image = random(2, 3, *shape, seed=1)
    ones = np.ones([2 * r + 1 for r in radii])
    expected = np.stack(
        [[ndimage.convolve(c, ones, mode="constant") for c in b] for b in image.numpy()]
    )
    before = image.clone()
    assert np.allclose(box_sum(image, radii).numpy(), expected, atol=1e-11)
    assert torch.equal(image, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_box_sum_passes_gradcheck(shape: tuple[int, ...]) -> None:
    image = random(1, 2, *shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: box_sum(x, (1, 2, 9)[: len(shape)]), image)
