"""The hot loops against SciPy's filters and by what must hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from stn3d.kernels import box_sum, gaussian_smooth
from tests.geometry_cases import random

SHAPES = [(7, 5), (6, 7, 5), (1, 6), (5, 1, 4)]


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
def test_box_sum_has_the_right_gradient(shape: tuple[int, ...]) -> None:
    image = random(1, 2, *shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: box_sum(x, (1, 2, 9)[: len(shape)]), image)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [(0.4, 1.0, 1.7), (3.0, 0.0, 0.5), (6.0, 6.0, 6.0)])
def test_gaussian_smooth_is_scipys_filter(shape: tuple[int, ...], sigma: tuple[float, ...]) -> None:
    sigmas = sigma[: len(shape)]
    image = random(2, 1, *shape, seed=2)
    expected = image.numpy()
    for axis, s in enumerate(sigmas, start=2):
        if s > 0:
            expected = ndimage.gaussian_filter1d(
                expected, s, axis, mode="nearest", radius=max(1, math.ceil(3 * s))
            )
    before = image.clone()
    assert np.allclose(gaussian_smooth(image, sigmas).numpy(), expected, atol=1e-12)
    assert torch.equal(image, before)


def test_a_sigma_below_a_tenth_changes_nothing() -> None:
    image = random(1, 1, 5, 6)
    assert torch.equal(gaussian_smooth(image, (0.09, 0.0)), image)


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_smooth_keeps_a_constant_and_a_ramps_middle(shape: tuple[int, ...]) -> None:
    sigmas = [0.6] * len(shape)
    constant = torch.full((1, 1, *shape), 3.5)
    assert torch.allclose(gaussian_smooth(constant, sigmas), constant, atol=1e-6)
    ramp = torch.arange(9.0).reshape(1, 1, 9, 1).expand(1, 1, 9, 4)
    assert torch.allclose(gaussian_smooth(ramp, (0.6, 0.6))[..., 2:7, :], ramp[..., 2:7, :])


def test_gaussian_smooth_carries_no_gradient() -> None:
    image = random(1, 1, 5, 5).requires_grad_()
    assert not gaussian_smooth(image, (1.0, 1.0)).requires_grad
