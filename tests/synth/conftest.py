"""Random subjects for the tests of synthetic data."""

from __future__ import annotations

import pytest

from stn3d.synth import (
    SeededGenerator,
    Subject,
    random_subject,
)


@pytest.fixture(scope="module")
def heads() -> list[Subject]:
    return [random_subject(SeededGenerator(0, i), spacing_mm=3.0, num_labels=10) for i in range(2)]


@pytest.fixture(scope="module")
def slices() -> list[Subject]:
    return [random_subject(SeededGenerator(1, i), spatial_dims=2) for i in range(2)]
