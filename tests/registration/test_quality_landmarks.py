"""Errors at landmarks that were used: what the images say about places without them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from stn3d.preprocessing.landmark_term import LandmarkTerm
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.quality_landmarks import cross_validated_errors_mm
from stn3d.registration.quality_measures import measure_quality
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS, uniform
from tests.helpers.synthetic import SEMI_AXES_MM, known_pair, linear_truth, plain_grid


def textured(ndim: int) -> tuple[Pair, Affine]:
    grid = plain_grid(ndim, 36)
    shift = torch.tensor([4.0, -3, 2]).double()[:ndim]
    known = known_pair(linear_truth("rigid", torch.zeros(ndim).double(), shift, 6), grid, grid)
    return known.pair, Affine.from_matrix(known.truth.matrix)


def points(ndim: int, count: int = 10) -> Tensor:
    axes = torch.tensor(SEMI_AXES_MM[:ndim]).double()
    return 0.6 * axes * uniform(-1, 1, count, ndim, seed=4).double()


@pytest.mark.parametrize("ndim", DIMS)
def test_images_find_landmarks_that_are_omitted(ndim: int) -> None:
    pair, truth = textured(ndim)
    at = points(ndim)
    with_landmarks = dataclasses.replace(pair, landmarks=LandmarkTerm(at, truth(at), 1.0, 1.0))
    found = cross_validated_errors_mm(with_landmarks, 1.0, truth, "rigid", "lncc", False)
    assert found is not None
    assert found.shape == (10,)
    assert float(found.max()) < 0.6


@pytest.mark.parametrize("ndim", DIMS)
def test_landmarks_that_contradict_each_other_are_not_found(ndim: int) -> None:
    """A deformation meets each of them; the others do not determine it."""
    grid = plain_grid(ndim, 36)
    distance = torch.linalg.vector_norm(grid.points_mm(), dim=-1)
    disc = torch.sigmoid(12 - distance).float()[None, None]  # says nothing about its inside
    same = PreparedImage(disc, grid)
    at = points(ndim)
    target = at + 3 * uniform(-1, 1, 10, ndim, seed=5).double()
    term = LandmarkTerm(at, target, 1.0, 1.0)
    identity = Affine.identity(ndim)
    used = Pair(same, same, term)
    found = cross_validated_errors_mm(used, 1.0, identity, "affine", "lncc", True)
    assert found is not None
    unmoved = torch.linalg.vector_norm(target - at, dim=-1)
    assert float(found.mean()) > 0.6 * float(unmoved.mean())
    measures = measure_quality(used, identity, "affine", "lncc", {"tre_mm": {"mean": 0, "max": 0}})
    assert measures.landmark_error_fraction is not None
    assert measures.landmark_error_fraction > 0.015  # not the 0 of the landmarks that were used
    free = dataclasses.replace(used, landmarks=None)
    measures = measure_quality(free, identity, "affine", "lncc", {"tre_mm": {"mean": 0, "max": 0}})
    assert measures.landmark_error_fraction == 0


def test_a_single_landmark_cannot_be_omitted() -> None:
    pair, truth = textured(2)
    at = points(2, 1)
    alone = dataclasses.replace(pair, landmarks=LandmarkTerm(at, truth(at), 1.0, 1.0))
    assert cross_validated_errors_mm(alone, 1.0, truth, "rigid", "lncc", True) is None
