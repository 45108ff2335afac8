"""Least-squares fits of linear transforms to points."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stn3d.transforms import Affine, Linear, Rigid, Similarity
from stn3d.transforms.fit import fit_linear
from tests.helpers.geometry_cases import DIMS, random


@pytest.mark.parametrize("kind", [Rigid, Similarity, Affine])
@pytest.mark.parametrize("d", DIMS)
def test_a_fit_recovers_the_transform_of_the_points(kind: type[Linear], d: int) -> None:
    start = kind.identity_parameters(d)
    truth = kind(start + 0.3 * random(len(start)), random(d, seed=3))
    points, weight = 30 * random(2, 25, d), random(2, 25).abs()
    name: Any = kind.__name__.lower()
    targets = truth(points)
    targets[:, -1] += 50  # weight 0
    weight[:, -1] = 0
    found = fit_linear(name, points, targets, weight)
    assert torch.allclose(found(points[:, :-1]), targets[:, :-1], atol=1e-8)


def test_a_rigid_fit_is_never_a_reflection() -> None:
    points = 30 * random(25, 3)
    mirrored = points * torch.tensor([-1.0, 1, 1])
    linear = fit_linear("rigid", points, mirrored).linear_part()
    assert torch.linalg.det(linear) == pytest.approx(1)
