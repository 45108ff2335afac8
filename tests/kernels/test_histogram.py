"""Joint histogram and mutual information: the reference, gradients, known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from stn3d import kernels
from stn3d.errors import InputError
from stn3d.kernels.histogram import reference
from tests.kernels.cases import (
    DTYPES,
    SHAPES,
    assert_alike,
    strided,
    two_images,
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_joint_histogram_equals_the_reference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    fixed, moved, weight = two_images(shape, dtype)

    def plain(m: Tensor, w: Tensor) -> Tensor:
        return reference.joint_histogram(fixed, m, w.expand(2, *w.shape[1:]), 7)

    assert_alike(lambda m, w: kernels.joint_histogram(fixed, m, w, 7), plain, (moved, weight))
    total = kernels.joint_histogram(strided(fixed), strided(moved), None, 7).sum(dim=(-2, -1))
    torch.testing.assert_close(total, torch.full_like(total, math.prod(shape)))


@pytest.mark.parametrize("shape", SHAPES)
def test_mutual_information_has_the_right_gradient(shape: tuple[int, ...]) -> None:
    fixed, moved, weight = two_images(shape, torch.float64)
    # not at 0 and 1, where intensities are clipped
    moved = (0.1 + 0.8 * moved.detach().clamp(0, 1)).requires_grad_()
    assert gradcheck(lambda m, w: kernels.mutual_information(fixed, m, w, 6), (moved, weight))


def test_mutual_information_of_known_images() -> None:
    levels = torch.arange(8).double() / 7  # centres of moved bins, of which there are 10
    fixed, moved = torch.meshgrid(levels, levels, indexing="ij")
    independent = kernels.mutual_information(fixed[None, None], moved[None, None], None, 10)
    assert float(independent) == pytest.approx(0, abs=1e-12)
    same = kernels.mutual_information(fixed[None, None], fixed[None, None], None, 10)
    # the fixed image determines the level; the moved image's window blurs it: 1/6 2/3 1/6
    window = np.array([1 / 6, 2 / 3, 1 / 6])
    row = np.convolve(np.full(8, 1 / 8), window)
    blurred = -(row * np.log(row)).sum() + (window * np.log(window)).sum()
    assert float(same) == pytest.approx(blurred, abs=1e-9)
    nothing = torch.zeros(1, 1, 8, 8).double()
    assert float(kernels.mutual_information(fixed[None, None], nothing, nothing, 10)) == 0


def test_too_few_bins_are_rejected() -> None:
    with pytest.raises(InputError, match="at least 5 bins"):
        kernels.joint_histogram(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), None, 4)


def test_nan_and_infinity_stay_in_the_histogram() -> None:
    image = torch.tensor([math.nan, math.inf, -math.inf, 0.5]).reshape(1, 1, 2, 2)
    assert float(kernels.joint_histogram(image, image, None, 5).sum()) == pytest.approx(4)
