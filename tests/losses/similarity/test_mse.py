"""The mean squared difference."""

from __future__ import annotations

import pytest

from stn3d.losses import mse
from tests.helpers.images import SHAPES, noise


@pytest.mark.parametrize("shape", SHAPES)
def test_known_values(shape: tuple[int, ...]) -> None:
    a = noise(1, 1, *shape, seed=1)
    assert mse(a, a + 3).item() == pytest.approx(9)
