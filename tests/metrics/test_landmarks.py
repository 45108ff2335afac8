"""Target registration error."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stn3d.errors import InputError
from stn3d.metrics import (
    tre_mm,
)
from stn3d.transforms import Affine

RNG_SEED = 7


@pytest.mark.parametrize("d", [2, 3])
def test_tre_of_a_shift_is_its_length(d: int) -> None:
    eye, zero = torch.eye(d).double().flatten(), torch.zeros(d).double()
    shift = Affine(torch.cat([eye, torch.tensor([3.0, 4.0, 0.0][:d]).double()]), zero)
    points = np.random.default_rng(RNG_SEED).normal(size=(50, d)) * 30
    points.setflags(write=False)
    assert tre_mm(Affine.identity(d), points, points) == {"mean": 0, "p95": 0, "max": 0}
    five = pytest.approx({"mean": 5, "p95": 5, "max": 5})
    assert tre_mm(shift, points, torch.from_numpy(points.copy())) == five
    away = points + np.arange(50)[:, None] * np.eye(d)[0]
    gaps = {"mean": 24.5, "p95": np.percentile(np.arange(50), 95), "max": 49}
    assert tre_mm(Affine.identity(d), points, away) == pytest.approx(gaps)
    assert math.isnan(tre_mm(shift, points[:0], points[:0])["mean"])


def test_landmarks_that_are_not_in_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="landmarks"):
        tre_mm(Affine.identity(2), np.zeros((3, 2)), np.zeros((4, 2)))
