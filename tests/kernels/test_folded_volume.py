"""Folded volume: the reference, tetrahedra by hand, and the published code's kernels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from stn3d import kernels
from stn3d.kernels.folded_volume import reference
from tests.helpers.geometry_cases import random
from tests.kernels.cases import DTYPES, SHAPES, assert_alike, strided


@pytest.mark.parametrize("shape", [*SHAPES, (2, 2, 2), (1, 1, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mirrored", [False, True])
def test_folded_volume_equals_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, mirrored: bool
) -> None:
    field = strided(random(2, len(shape), *shape)).to(dtype)

    def both(module: object, x: torch.Tensor) -> torch.Tensor:
        return module.folded_volume(x, mirrored)  # type: ignore[attr-defined,no-any-return]

    assert_alike(lambda x: both(kernels, x), lambda x: both(reference, x), [field])


def by_correlation(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Liu et al.'s eq. for NDV, with one-sided differences as correlations; inner voxels alone."""
    unit = {1: [0, -1, 1], -1: [-1, 1, 0]}
    folded = np.zeros(positions.shape[1:])
    for signs in itertools.product((1, -1), repeat=3):
        columns = [
            [ndimage.correlate1d(x, unit[s], axis) for x in positions]
            for axis, s in enumerate(signs)
        ]
        folded += np.minimum(np.linalg.det(np.moveaxis(np.array(columns), (0, 1), (-1, -2))), 0)
    for sign in (1, -1):
        steps = [(1, 1, 0), (0, 1, 1), (1, 0, 1)]
        columns = [
            [x - np.roll(x, [sign * s for s in step], (0, 1, 2)) for x in positions]
            for step in steps
        ]
        det = np.linalg.det(np.moveaxis(np.array(columns), (0, 1), (-1, -2)))
        folded += np.minimum(det * (1 if sign == 1 else -1), 0)
    return -folded[1:-1, 1:-1, 1:-1] / 12


def test_folded_volume_is_the_sum_over_ten_tetrahedra() -> None:
    field = random(1, 3, 8, 7, 6, scale=0.6).double()
    positions = field[0].numpy() + np.indices((8, 7, 6))
    expected = by_correlation(positions)
    assert expected.max() > 0.1
    found = kernels.folded_volume(field)[0, 1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_a_reflection_folds_its_whole_volume(d: int) -> None:
    shape = (5, 6, 7)[:d]
    field = torch.zeros(1, d, *shape).double()
    field[0, 0] = -3 * torch.arange(5).reshape(5, *[1] * (d - 1))  # x becomes -2 x
    inner = (0, *[slice(1, -1)] * d)
    folded = kernels.folded_volume(field)[inner]
    torch.testing.assert_close(folded, torch.full_like(folded, 2.0))
    assert float(kernels.folded_volume(field, mirrored=True)[inner].max()) == 0


def test_a_voxel_outside_its_neighbours_is_found() -> None:
    """Central differences at a voxel ignore the voxel itself."""
    field = torch.zeros(1, 2, 5, 5).double()
    field[0, 0, 2, 2] = 3.0
    assert float(kernels.jacobian_determinant(field)[0, 2, 2]) == 1
    # two triangles with the corners (2, 0), (0, +-1) from a centre moved beyond them
    assert float(kernels.folded_volume(field)[0, 2, 2]) == pytest.approx(2 * (3 - 1) / 4)
