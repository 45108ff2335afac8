"""Files, matrices and SimpleITK transforms as transforms, checked by SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.errors import InputError
from stn3d.io import as_transform, write_transform
from stn3d.landmarks import register_landmarks
from stn3d.transforms import Affine

POINTS = [[10.0, -20.0, 30.0], [-5.0, 8.0, 2.0]]
FLIP = np.array([-1.0, -1.0, 1.0])


def euler() -> Any:
    return sitk.Euler3DTransform((5.0, 6.0, 7.0), 0.1, -0.2, 0.3, (1.0, 2.0, 3.0))


def scale() -> Any:
    return sitk.ScaleTransform(3, (1.1, 0.9, 1.2))


def warp() -> Any:
    field = np.random.default_rng(0).normal(size=(7, 8, 9, 3))
    image = sitk.GetImageFromArray(field, isVector=True)
    image.SetOrigin((-40.0, -50.0, -30.0))
    image.SetSpacing((10.0, 12.0, 14.0))
    return sitk.DisplacementFieldTransform(image)


@pytest.mark.parametrize(
    "make",
    [euler, scale, warp, lambda: sitk.CompositeTransform([euler(), warp(), scale()])],
)
def test_a_simpleitk_transform_maps_points_as_simpleitk_does(make: Any) -> None:
    expected = [FLIP * np.array(make().TransformPoint(FLIP * np.array(p))) for p in POINTS]
    np.testing.assert_allclose(as_transform(make())(POINTS).numpy(), expected, atol=1e-4)


def test_matrices(tmp_path: Path) -> None:
    matrix = np.array([[1.0, 0.1, 0, 5], [0, 1.2, 0, 6], [0, 0, 0.9, 7], [0, 0, 0, 1]])
    expected = np.array(POINTS) @ matrix[:3, :3].T + matrix[:3, 3]
    write_transform(tmp_path / "a.tfm", Affine.from_matrix(matrix))
    for source in (matrix, matrix.tolist(), torch.from_numpy(matrix), tmp_path / "a.tfm"):
        np.testing.assert_allclose(as_transform(source)(POINTS).numpy(), expected, atol=1e-9)
    integers = as_transform([[0, -1, 3], [1, 0, 4], [0, 0, 1]])
    assert integers([[1, 2]]).tolist() == [[1, 5]]
    transform = as_transform(matrix)
    assert as_transform(transform) is transform


def test_the_result_of_a_registration_has_a_transform() -> None:
    points = torch.rand(9, 3, dtype=torch.float64)
    found = register_landmarks(points, points + 5)
    assert as_transform(found) is found.transform


def test_a_transform_in_memory_is_not_changed() -> None:
    transform = warp()
    before = sitk.GetArrayFromImage(sitk.Cast(transform.GetDisplacementField(), 13))
    as_transform(transform)
    after = sitk.GetArrayFromImage(sitk.Cast(transform.GetDisplacementField(), 13))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.eye(5), r"matrix of shape \(5, 5\) is no transform"),
        (np.zeros((4, 4)), "singular"),
        (np.diag([1, 1, 0, 1]), "singular"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.ones((4, 4)) + np.eye(4), "last row"),
        (None, "a NoneType is no transform; give a Transform, a path"),
        ("missing.h5", "there is no transform file"),
        (sitk.BSplineTransform(3), "holds a BSplineTransform"),
    ],
)
def test_what_is_no_transform_is_one_sentence(source: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        as_transform(source)
