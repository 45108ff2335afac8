"""The landmark term: symmetry, gradient, unit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stn3d.preprocessing.landmark_term import LandmarkTerm
from stn3d.transforms import Affine, Rigid
from tests.helpers.geometry_cases import DIMS, uniform


@given(seed=st.integers(0, 1000), ndim=st.sampled_from(DIMS))
def test_the_term_is_alike_both_ways_for_a_rigid_transform(seed: int, ndim: int) -> None:
    points = uniform(-30, 30, 5, ndim, seed=seed).double()
    targets = uniform(-30, 30, 5, ndim, seed=seed + 1).double()
    count = Rigid.num_parameters(ndim)
    rigid = Rigid(uniform(-1, 1, count, seed=seed + 2).double(), torch.zeros(ndim).double())
    term = LandmarkTerm(points, targets, 0.7)
    assert torch.allclose(term(rigid), term.swapped(rigid.inverse()))


def test_the_term_has_the_right_gradient() -> None:
    term = LandmarkTerm(uniform(-9, 9, 4, 3, seed=1).double(), torch.zeros(4, 3).double(), 2.0)

    def loss(numbers: Tensor) -> Tensor:
        return term(Affine(numbers, torch.zeros(3).double()))

    start = Affine.identity_parameters(3) + 0.1 * uniform(-1, 1, 12, seed=2).double()
    assert torch.autograd.gradcheck(loss, start.requires_grad_())


def test_the_term_counts_ten_millimetres_as_one() -> None:
    off = torch.tensor([[0.0, 6, 8], [0, 0, 0]]).double()
    term = LandmarkTerm(torch.zeros(2, 3).double(), off, 3.0)
    assert float(term(Affine.identity(3))) == pytest.approx(3 * (1 + 0) / 2)
