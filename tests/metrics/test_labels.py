"""Labels large enough to score, and label maps that cannot be used."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stn3d.errors import InputError
from stn3d.metrics import (
    dice,
    select_labels,
)


def test_selected_labels_are_those_large_enough_in_both_maps() -> None:
    fixed, moving = np.zeros((20, 20), int), np.zeros((30, 11), float)
    fixed[:10, :10], fixed[10:, :9], fixed[0, 10:13] = 3, 8, 2
    moving[:10, :10], moving[10:20, :10], moving[20:30, :10] = 3, 8, 2
    moving[29, 10], fixed[19, 19] = 5, 6
    found = select_labels(fixed, moving)
    assert found.labels == (3,)
    assert found.omitted == {
        2: "3 voxels in the fixed label map, fewer than 100",
        5: "not in the fixed label map",
        6: "not in the moving label map",
        8: "90 voxels in the fixed label map, fewer than 100",
    }
    assert (found.fixed_voxels[3], found.moving_voxels[2]) == (100, 100)
    assert select_labels(fixed, moving, min_voxels=90).labels == (3, 8)
    huge = select_labels(fixed * 10**8, moving * 10**8, min_voxels=3)
    assert huge.labels == (2 * 10**8, 3 * 10**8, 8 * 10**8)


def test_labels_that_are_asked_for_are_selected_in_their_order() -> None:
    fixed = np.array([1, 1, 2, 3, 3])
    found = select_labels(fixed, fixed, [3, 1, 9, 3], min_voxels=2)
    assert found.labels == (3, 1)
    assert found.omitted == {9: "in neither label map"}
    one = select_labels(fixed, fixed, [2], min_voxels=2)
    assert one.omitted == {2: "1 voxel in the fixed label map, fewer than 2"}
    with pytest.raises(InputError, match="0 is the background"):
        select_labels(fixed, fixed, [0])
    with pytest.raises(InputError, match="at least 1"):
        select_labels(fixed, fixed, min_voxels=0)


@pytest.mark.parametrize(
    ("labels", "match"), [([0.5, 1], "fractions"), ([math.nan, 1], "NaN"), ([-1, 2], "negative")]
)
def test_labels_that_are_none_are_refused(labels: list[float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        dice(np.array(labels), np.array([0, 1]))
