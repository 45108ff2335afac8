"""The force of landmarks on a displacement field."""

from __future__ import annotations

import pytest
import torch

from stn3d.grid import Grid
from stn3d.preprocessing.landmark_term import LandmarkTerm
from stn3d.registration.stages.landmark_force import LandmarkForce
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS, uniform
from tests.helpers.synthetic import plain_grid


@pytest.mark.parametrize("ndim", DIMS)
def test_repeated_steps_lead_a_field_to_its_landmarks(ndim: int) -> None:
    grid = Grid.of_spacing((30,) * ndim, 2.0)
    fixed = grid.centre_mm + uniform(-15, 15, 4, ndim, seed=4).double()
    term = LandmarkTerm(fixed, fixed + uniform(-5, 5, 4, ndim, seed=5).double(), 1.0)
    force = LandmarkForce.of(term, grid, Affine.identity(ndim), [torch.ones(30)] * ndim)
    assert force is not None
    u = torch.zeros(1, ndim, *grid.shape)
    before = force.loss(u)
    assert before == pytest.approx(float(term(Affine.identity(ndim))), rel=1e-5)
    for _ in range(200):
        step = torch.zeros_like(u)
        force.add_to(step, u, 1.0)
        assert float(torch.linalg.vector_norm(step, dim=1).max()) <= 0.5 + 1e-6
        u = u + step
    assert force.loss(u) < 1e-4 * before
    corner = u[(0, slice(None), *(0,) * ndim)]
    assert float(corner.abs().max()) == 0  # far from all landmarks


def test_landmarks_beyond_the_grid_have_no_force() -> None:
    grid = plain_grid(2, 20)
    far = torch.full((1, 2), 500.0).double()
    assert (
        LandmarkForce.of(
            LandmarkTerm(far, far, 1.0), grid, Affine.identity(2), [torch.ones(20)] * 2
        )
        is None
    )
