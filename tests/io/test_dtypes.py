"""Data types that hold all values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stn3d.io import Values

EDGE = 2**53


@pytest.mark.parametrize(
    ("values", "given", "expected"),
    [
        ([0, 255], None, "u1"),
        ([0, 256], None, "i2"),
        ([-1, 1 << 15], None, "i4"),
        ([0, 1 << 31], None, "i8"),
        ([0, 1], "i2", "i2"),
        ([0, 1], "f8", "f8"),
        ([0, 1], "f2", "u1"),
        ([0, (1 << 24) + 1], "f4", "i4"),
        ([0, EDGE + 1], "f8", "i8"),
        ([0, EDGE], "f8", "f8"),
        ([0, 300], "u1", "i2"),
        ([0.5, 1], "i2", "f4"),
        ([0.1, 1], "f4", "f8"),
        ([0.5, 1], "f8", "f8"),
        ([-1, 200], "u2", "i2"),
        ([0, 1 << 40], "u8", "u8"),
    ],
)
def test_the_given_type_or_the_smallest(
    values: list[float], given: str | None, expected: str
) -> None:
    whole = all(isinstance(value, int) for value in values)
    tensor = torch.tensor(values, dtype=torch.int64 if whole else torch.float64)
    found = Values.of(tensor).stored_as(None if given is None else np.dtype(given))
    assert found == np.dtype(expected)
    assert tensor.numpy().astype(found).astype(tensor.numpy().dtype).tolist() == values


def test_several_tensors() -> None:
    a, b = Values.of(torch.tensor([0, 7])), Values.of(torch.tensor([-3.25]))
    assert a.joined(b) == Values(-3.25, 7, False, True)
    assert a.joined(b) == b.joined(a)
