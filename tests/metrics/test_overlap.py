"""Dice: analytic cases, properties and SimpleITK."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stn3d.errors import InputError
from stn3d.metrics import (
    dice,
)

RNG_SEED = 7


def test_dice_of_shifted_blocks_is_known() -> None:
    fixed, moved = np.zeros((10, 10), np.int16), torch.zeros(10, 10, dtype=torch.uint8)
    fixed[2:6, 2:6], moved[3:7, 2:6] = 5, 5
    fixed[8, :], moved[0, :] = 9, 12
    assert dice(fixed, moved) == {5: 2 * 12 / 32, 9: 0.0, 12: 0.0}
    chosen = dice(fixed, moved, [12, 5, 77])
    assert list(chosen) == [12, 5, 77]
    assert math.isnan(chosen[77])


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 1000),
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=3),
    factor=st.sampled_from([1, 37, 4_000_000]),
)
def test_dice_is_symmetric_and_one_for_equal_maps(seed: int, shape: list[int], factor: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, (2, *shape)) * factor
    assert dice(a, b) == dice(b, a)
    assert all(value == 1 for value in dice(a, a).values())
    assert set(dice(a, b)) == (set(np.unique(a).tolist()) | set(np.unique(b).tolist())) - {0}
    by_hand = {
        v: 2 * ((a == v) & (b == v)).sum() / ((a == v).sum() + (b == v).sum()) for v in a.ravel()
    }
    assert all(dice(a, b, [v])[v] == pytest.approx(by_hand[v]) for v in by_hand)


@pytest.mark.parametrize("d", [2, 3])
def test_dice_is_simpleitks(d: int) -> None:
    rng = np.random.default_rng(RNG_SEED)
    a, b = rng.integers(0, 7, (2, *(9, 8, 7)[:d])).astype(np.int32)
    sitk_filter = sitk.LabelOverlapMeasuresImageFilter()
    sitk_filter.Execute(sitk.GetImageFromArray(a), sitk.GetImageFromArray(b))
    assert dice(a, b) == pytest.approx({i: sitk_filter.GetDiceCoefficient(i) for i in range(1, 7)})


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="shapes"):
        dice(np.zeros((4, 5), int), np.zeros((5, 4), int))
