"""The part of a body that slides: within its wall, without the table and the upper end."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.bench.studies.sliding_body import content_of


@pytest.mark.parametrize("upwards", [1, -1])
def test_the_content_lies_within_the_wall(upwards: int) -> None:
    axes = np.arange(90) - 45
    radius_mm = 2 * np.hypot(axes[:, None], axes[None])
    values = np.full((90, 90, 40), -1000.0)
    values[radius_mm < 80] = 40
    values[radius_mm < 30] = -900  # lungs
    values[5:85, 88:] = 0  # the table
    content = content_of(values, np.diag([2.0, 2, 4 * upwards, 1]))
    lower = content[:, :, :29] if upwards > 0 else content[:, :, 11:]
    expected = (radius_mm < 80 - 30)[..., None]
    assert (lower != expected).mean() < 0.01
    upper = content[:, :, 30:] if upwards > 0 else content[:, :, :10]
    assert not upper.any()  # 40 mm
