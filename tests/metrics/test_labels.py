"""Labels large enough to score, and label maps that cannot be used."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stn3d.errors import InputError
from stn3d.metrics import (
    dice,
    scored_labels,
)


def test_scored_labels_are_those_large_enough_in_both_maps() -> None:
    fixed, moving = np.zeros((20, 20), int), np.zeros((30, 11), float)
    fixed[:10, :10], fixed[10:, :9], fixed[0, 10:13] = 3, 8, 2
    moving[:10, :10], moving[10:20, :10], moving[20:30, :10] = 3, 8, 2
    assert scored_labels(fixed, moving) == [3]
    assert scored_labels(fixed, moving, min_voxels=90) == [3, 8]
    assert scored_labels(fixed * 10**8, moving * 10**8, min_voxels=3) == [
        2 * 10**8,
        3 * 10**8,
        8 * 10**8,
    ]


@pytest.mark.parametrize(
    ("labels", "match"), [([0.5, 1], "fractions"), ([math.nan, 1], "NaN"), ([-1, 2], "negative")]
)
def test_labels_that_are_none_are_refused(labels: list[float], match: str) -> None:
    with pytest.raises(InputError, match=match):
        dice(np.array(labels), np.array([0, 1]))
