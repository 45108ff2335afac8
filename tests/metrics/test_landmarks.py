"""Target registration error."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stn3d.errors import InputError
from stn3d.metrics import landmark_robustness, tre_mm
from stn3d.transforms import Affine

RNG_SEED = 7


@pytest.mark.parametrize("d", [2, 3])
def test_tre_of_a_shift_is_its_length(d: int) -> None:
    eye, zero = torch.eye(d).double().flatten(), torch.zeros(d).double()
    shift = Affine(torch.cat([eye, torch.tensor([3.0, 4.0, 0.0][:d]).double()]), zero)
    points = np.random.default_rng(RNG_SEED).normal(size=(50, d)) * 30
    points.setflags(write=False)
    assert set(tre_mm(Affine.identity(d), points, points).values()) == {0}
    five = tre_mm(shift, points, torch.from_numpy(points.copy()))
    assert list(five) == ["mean", "median", "p75", "p90", "p95", "max", "worst30"]
    assert list(five.values()) == pytest.approx([5] * 7)
    lengths = np.arange(50)
    away = points + lengths[:, None] * np.eye(d)[0]
    expected = {
        "mean": 24.5,
        "median": 24.5,
        "p75": np.percentile(lengths, 75),
        "p90": np.percentile(lengths, 90),
        "p95": np.percentile(lengths, 95),
        "max": 49,
        "worst30": lengths[35:].mean(),  # 15 of 50
    }
    assert tre_mm(Affine.identity(d), points, away) == pytest.approx(expected)
    assert all(math.isnan(value) for value in tre_mm(shift, points[:0], points[:0]).values())


def test_the_worst_30_percent_are_rounded_up_to_whole_landmarks() -> None:
    points = np.zeros((10, 2))
    away = np.stack([np.arange(10.0), np.zeros(10)], axis=1)
    identity = Affine.identity(2)
    assert tre_mm(identity, points, away)["worst30"] == pytest.approx(8)  # 3 of 10: 7, 8, 9
    assert tre_mm(identity, points[:2], away[:2])["worst30"] == 1  # 1 of 2


def test_robustness_is_the_share_of_landmarks_that_come_closer() -> None:
    eye = torch.eye(2).double().flatten()
    shift = Affine(torch.cat([eye, torch.tensor([2.0, 0.0]).double()]), torch.zeros(2).double())
    fixed = np.zeros((4, 2))
    moving = np.array([[2.0, 0], [3, 0], [1, 0], [-1, 0]])  # better, better, equal, worse
    assert landmark_robustness(shift, fixed, moving) == 0.5
    assert landmark_robustness(Affine.identity(2), fixed, moving) == 0
    assert math.isnan(landmark_robustness(shift, fixed[:0], moving[:0]))


def test_landmarks_that_are_not_in_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="landmarks"):
        tre_mm(Affine.identity(2), np.zeros((3, 2)), np.zeros((4, 2)))
