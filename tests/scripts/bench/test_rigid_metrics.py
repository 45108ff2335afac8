"""Rigid transforms from files, and distances between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from scripts.bench import rigid_metrics as rm
from stn3d import Affine, write_transform

CENTRE = np.array([10.0, -20.0, 30.0])
POINTS = CENTRE + np.random.default_rng(3).uniform(-60, 60, (400, 3))


def test_a_motion_gives_its_matrix_back() -> None:
    matrix = rm.rigid_matrix([0.3, -0.2, 0.5], [4.0, 5.0, -6.0], CENTRE)
    assert np.allclose(rm.transformed(matrix, CENTRE[None]), CENTRE + np.array([4, 5, -6]))
    numbers = rm.motion(matrix, CENTRE)
    assert np.allclose(numbers, [0.3, -0.2, 0.5, 4, 5, -6])
    assert np.allclose(rm.rigid_matrix(numbers[:3], numbers[3:], CENTRE), matrix)


def test_a_matrix_is_read_from_stn3d_files_and_from_fields(tmp_path: Path) -> None:
    matrix = rm.rigid_matrix([0.3, -0.2, 0.5], [4.0, 5.0, -6.0], CENTRE)
    write_transform(tmp_path / "t.h5", Affine.from_matrix(torch.from_numpy(matrix)))
    assert np.allclose(rm.read_matrix(tmp_path / "t.h5", POINTS), matrix, atol=1e-6)
    transform = sitk.ReadTransform(str(tmp_path / "t.h5"))
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, [40] * 3, [-80.0, -50.0, -40.0], [4.0] * 3
    )
    dense = sitk.DisplacementFieldTransform(sitk.Image(field))
    sitk.WriteTransform(sitk.CompositeTransform([dense]), str(tmp_path / "d.h5"))
    assert np.allclose(rm.read_matrix(tmp_path / "d.h5", POINTS), matrix, atol=1e-4)


def test_a_transform_that_bends_is_no_matrix(tmp_path: Path) -> None:
    spline = sitk.BSplineTransformInitializer(sitk.Image([30] * 3, sitk.sitkFloat32), [2, 2, 2])
    count = len(spline.GetParameters())
    spline.SetParameters(np.random.default_rng(1).normal(size=count).tolist())
    sitk.WriteTransform(spline, str(tmp_path / "b.h5"))
    with pytest.raises(ValueError, match="holds no linear transform"):
        rm.read_matrix(tmp_path / "b.h5", np.random.default_rng(2).uniform(-29, 0, (300, 3)))


def test_the_common_motion_is_that_of_the_other_seeds() -> None:
    common = rm.rigid_matrix([0.002, 0.0, -0.001], [0.2, -0.1, 0.1], POINTS.mean(0))
    alike = rm.without_common_motion([common] * 3, POINTS)
    assert all(left is not None and left.max() < 1e-9 for left in alike)
    shifted = rm.rigid_matrix([0.0] * 3, [1.0, 0.0, 0.0], CENTRE)
    first, second, third = rm.without_common_motion([np.eye(4), np.eye(4), shifted], POINTS)
    assert first is not None
    assert np.allclose(first, 0.5)  # half of the third one's millimetre
    assert np.allclose(second, first)
    assert third is not None
    assert np.allclose(third, 1.0)
    assert rm.without_common_motion([common], POINTS) == [None]


def test_the_consensus_is_not_moved_by_one_that_is_lost() -> None:
    lost = rm.rigid_matrix([2.0, 0.0, 0.0], [50.0, 0.0, 0.0], CENTRE)
    middle = rm.consensus([np.eye(4), np.eye(4), lost], POINTS)
    assert np.allclose(middle, POINTS)
