"""Inverse-consistency error and error to the true transform."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.metrics import (
    inverse_consistency_error_mm,
    true_error_mm,
)
from stn3d.transforms import Affine

RNG_SEED = 7


@pytest.mark.parametrize("d", [2, 3])
def test_errors_of_a_shift_are_its_length(d: int) -> None:
    eye, zero = torch.eye(d).double().flatten(), torch.zeros(d).double()
    shift = Affine(torch.cat([eye, torch.tensor([3.0, 4.0, 0.0][:d]).double()]), zero)
    points = np.random.default_rng(RNG_SEED).normal(size=(50, d)) * 30
    points.setflags(write=False)
    five = pytest.approx({"mean": 5, "p95": 5, "max": 5})
    assert inverse_consistency_error_mm(shift, Affine.identity(d), points) == five
    assert inverse_consistency_error_mm(shift, shift.inverse(), points)["max"] < 1e-9
    grid = Grid.of_spacing((6, 5, 4)[:d], 2.0)
    assert true_error_mm(Affine.identity(d), shift, grid) == five


def test_points_of_another_dimension_are_refused() -> None:
    identity = Affine.identity(2)
    with pytest.raises(InputError, match="takes points"):
        inverse_consistency_error_mm(identity, identity, np.zeros((3, 3)))


def test_error_counts_only_the_mask() -> None:
    grid = Grid.of_spacing((6, 5))
    double = Affine(torch.tensor([2.0, 0, 0, 1, 0, 0]).double(), torch.zeros(2).double())
    mask = torch.zeros(6, 5, dtype=torch.bool)
    mask[2, :], mask[4, :] = True, True
    found = true_error_mm(double, Affine.identity(2), grid, mask)
    assert found == pytest.approx({"mean": 3, "p95": 4, "max": 4})
    assert math.isnan(true_error_mm(double, double, grid, torch.zeros(6, 5))["max"])
