"""Inversion: the reference and the residual."""

from __future__ import annotations

import pytest
import torch

from stn3d import kernels
from stn3d.kernels.common.points import points_of
from stn3d.kernels.invert import reference
from stn3d.kernels.sample_linear.reference import sample_linear
from tests.helpers.geometry_cases import random
from tests.kernels.cases import (
    DTYPES,
    strided,
)


@pytest.mark.parametrize("shape", [(14, 13), (12, 11, 10), (1, 12, 9)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_invert_solves_what_the_reference_solves(
    shape: tuple[int, ...], dtype: torch.dtype, elsewhere: bool
) -> None:
    d = len(shape)
    field = torch.zeros(2, d, *shape, dtype=dtype)
    free = [a for a, n in enumerate(shape) if n > 1]
    inner = tuple(slice(3, n - 3) if n > 1 else slice(None) for n in shape)
    for a in free:
        part = field[(slice(None), a, *inner)]
        part.copy_(random(*part.shape, seed=a, scale=0.2))
    matrix, wanted = torch.eye(d + 1).double(), shape
    if elsewhere:
        wanted = tuple(max(1, n // 2) for n in shape)
        matrix[free[0], free[1]], matrix[free, -1] = 0.1, 2.3
    spacing = torch.diag(torch.tensor([2.0, 0.5, 1.5])[:d])
    options = (matrix, wanted, spacing, 1e-4, 40)
    found, residual_mm = kernels.invert(strided(field), *options)
    expected, _ = reference.invert(field, *options)
    assert found.dtype == dtype
    assert residual_mm <= 1e-4
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-4)
    points = points_of(wanted, field.double()) @ matrix[:-1, :-1].T + matrix[:-1, -1]
    at = points + found.double().movedim(1, -1)
    moves = sample_linear(field.double(), at.reshape(2, -1, d))
    gap = (found.double().flatten(2) + moves).movedim(1, -1) @ spacing.double()
    assert float(gap.norm(dim=-1).max()) == pytest.approx(residual_mm, abs=1e-5)
