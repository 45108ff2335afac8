"""Jacobian determinants: the reference, gradients, linear maps."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from stn3d import kernels
from stn3d.kernels.common.points import points_of
from stn3d.kernels.jacobian import reference
from tests.helpers.geometry_cases import random
from tests.kernels.cases import (
    DTYPES,
    SHAPES,
    assert_alike,
    strided,
)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 2, 2), (1, 1, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_jacobian_determinant_equals_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    field = strided(random(2, len(shape), *shape)).to(dtype)
    plain = reference.jacobian_determinant
    assert_alike(kernels.jacobian_determinant, plain, [field])
    double = field.double().requires_grad_()
    assert gradcheck(kernels.jacobian_determinant, double, fast_mode=True)


def test_jacobian_determinant_of_a_linear_map_is_that_of_its_matrix() -> None:
    matrix = torch.eye(3) + random(3, 3, scale=0.2).float()
    field = points_of((4, 5, 6), matrix) @ (matrix - torch.eye(3)).T
    found = kernels.jacobian_determinant(field.movedim(-1, 0)[None])
    torch.testing.assert_close(found, torch.linalg.det(matrix).expand(1, 4, 5, 6))
