"""Points through a transform in blocks, normals, rotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stn3d.io import PointMap
from stn3d.io.points import mapping
from tests.io.points.cases import GRID, affine, by_itk, deformable, facet_normals, sphere


def test_points_agree_with_simpleitk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).uniform(-60, 60, (1000, 3))
    monkeypatch.setattr(mapping, "BLOCK", 70)  # the last block is not full
    found, outside = PointMap(deformable())(points)
    np.testing.assert_allclose(found, by_itk(deformable(), points, tmp_path), atol=2e-5)
    np.testing.assert_array_equal(outside, (np.abs(points) > 40).any(axis=1))


def test_the_field_of_view_is_that_of_the_target() -> None:
    points = np.array([[0.0, 0, 0], [34, 0, 0], [-70, 0, 0], [1e8, 0, 0]])
    moved = affine()(torch.from_numpy(points))
    expected = (moved.abs() > 40).any(dim=1).numpy()
    assert expected.any()
    np.testing.assert_array_equal(PointMap(affine(), GRID)(points).outside, expected)


@pytest.mark.parametrize("mirrored", [False, True])
def test_normals_are_those_of_the_moved_surface(mirrored: bool) -> None:
    vertices, triangles = sphere()
    to = PointMap(affine(mirrored))
    centres = vertices[triangles].mean(axis=1)
    moved = to(vertices).points_mm
    wound = triangles[:, ::-1] if mirrored else triangles
    expected = facet_normals(moved, wound)
    found = to.normals(centres, facet_normals(vertices, triangles))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert to.reverses(vertices) == mirrored


def test_rotations_are_proper() -> None:
    rotations = PointMap(affine(mirrored=True)).rotations(np.zeros((2, 3)))
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), [np.eye(3)] * 2, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)


def test_no_points() -> None:
    found, outside = PointMap(affine())(np.empty((0, 3)))
    assert found.shape == (0, 3)
    assert outside.shape == (0,)
