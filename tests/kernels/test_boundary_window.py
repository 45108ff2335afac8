"""The boundary window: the reference, quantiles of vector lengths."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from stn3d import kernels
from stn3d.kernels.boundary_window import reference
from tests.helpers.geometry_cases import random, uniform
from tests.kernels.cases import (
    DTYPES,
    REGION_SHAPES,
    UNTOUCHED,
    assert_done_in,
    ragged,
)


@pytest.mark.parametrize("shape", REGION_SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_boundary_window_equals_the_reference_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    d, region = len(shape), ragged(shape)
    inside = region.mask(shape)
    weights = [uniform(0, 1, n, seed=n).to(dtype) for n in shape]
    vectors = torch.where(inside, random(1, d, *shape).to(dtype), UNTOUCHED)
    expected = torch.where(inside, vectors, 0)
    longest = reference.apply_boundary_window(expected, weights, None, 0.5)
    assert kernels.apply_boundary_window(vectors, weights, region, 0.5) == pytest.approx(
        longest, rel=1e-6
    )
    assert_done_in(region, d, vectors, expected)


@pytest.mark.parametrize("apply", [kernels.apply_boundary_window, reference.apply_boundary_window])
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.999, 1.0])
def test_boundary_window_returns_the_quantile_of_nonzero_lengths(
    quantile: float, apply: Callable[..., float]
) -> None:
    shape = (14, 13, 12)
    vectors = random(1, 3, *shape) * (uniform(0, 1, *shape) < 0.6)
    lengths = torch.linalg.vector_norm(vectors[0], dim=0)
    lengths = lengths[lengths > 0].numpy()
    ones = [torch.ones(n) for n in shape]
    expected = np.quantile(lengths, quantile, method="inverted_cdf")
    assert apply(vectors, ones, None, quantile) == pytest.approx(float(expected), rel=1e-12)
    assert apply(torch.zeros_like(vectors), ones, None, quantile) == 0


def test_a_large_field_is_measured_in_a_subset_of_rows() -> None:
    shape = (80, 80, 80)
    vectors = random(1, 3, *shape).float()
    ones = [torch.ones(n) for n in shape]
    some = kernels.apply_boundary_window(vectors, ones, None, 0.99)
    every = np.quantile(torch.linalg.vector_norm(vectors[0], dim=0).numpy(), 0.99)
    assert some != pytest.approx(every, rel=1e-7)
    assert some == pytest.approx(every, rel=0.01)
    assert some == pytest.approx(
        reference.apply_boundary_window(vectors, ones, None, 0.99), rel=1e-6
    )
