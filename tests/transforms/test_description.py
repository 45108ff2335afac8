"""The parameters of a linear transform, against scipy and SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stn3d.grid import homogeneous
from stn3d.transforms import Affine, Rigid, Similarity, Translation, describe_linear
from tests.helpers.geometry_cases import DIMS, uniform

angle = st.floats(-80, 80)
around = st.floats(-179, 179)


def about(linear: np.ndarray, centre: list[float], shift: list[float]) -> Affine:
    """``y = A (x - c) + c + t``."""
    a, c, t = (torch.as_tensor(np.array(x, dtype=np.float64)) for x in (linear, centre, shift))
    return Affine.from_matrix(homogeneous(a, c + t - a @ c), c)


@given(x=around, y=angle, z=around)
def test_angles_equal_those_of_scipy_and_itk(x: float, y: float, z: float) -> None:
    rotation = Rotation.from_euler("xyz", [x, y, z], degrees=True)
    centre, shift = [3.0, -20.0, 7.0], [1.0, 2.0, -3.0]
    found = describe_linear(about(rotation.as_matrix(), centre, shift))
    assert found.rotation_deg == pytest.approx({"x": x, "y": y, "z": z}, abs=1e-6)
    itk = sitk.Euler3DTransform()
    itk.SetComputeZYX(True)
    itk.SetMatrix(rotation.as_matrix().flatten().tolist())
    angles = np.rad2deg([itk.GetAngleX(), itk.GetAngleY(), itk.GetAngleZ()])
    assert list(found.rotation_deg.values()) == pytest.approx(angles.tolist(), abs=1e-4)
    assert list(found.centre_mm.values()) == pytest.approx(centre)
    assert list(found.translation_mm.values()) == pytest.approx(shift)
    assert found.scales == pytest.approx({"x": 1, "y": 1, "z": 1})
    assert found.shears == pytest.approx({"xy": 0, "xz": 0, "yz": 0}, abs=1e-9)


@pytest.mark.parametrize("y", [90.0, -90.0])
def test_in_gimbal_lock_the_angles_still_give_the_rotation(y: float) -> None:
    rotation = Rotation.from_euler("xyz", [30, y, -10], degrees=True).as_matrix()
    found = describe_linear(about(rotation, [0, 0, 0], [0, 0, 0])).rotation_deg
    again = Rotation.from_euler("xyz", list(found.values()), degrees=True).as_matrix()
    assert np.allclose(again, rotation, atol=1e-6)


@given(seed=st.integers(0, 1000), d=st.sampled_from(DIMS), reflected=st.booleans())
def test_the_parameters_compose_to_the_transform(seed: int, d: int, reflected: bool) -> None:
    linear = torch.eye(d).double() + 0.4 * uniform(-1, 1, d, d, seed=seed).double()
    if float(torch.linalg.det(linear)) < 0.05:
        linear = torch.eye(d).double()
    if reflected:
        linear[:, -1] *= -1
    found = describe_linear(about(linear.numpy(), [5.0] * d, [1.0] * d))
    turn = [0.0, 0.0, *found.rotation_deg.values()] if d == 2 else [*found.rotation_deg.values()]
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()[:d, :d]
    upper = np.eye(d)
    for name, value in found.shears.items():
        upper["xyz".index(name[0]), "xyz".index(name[1])] = value
    scales = np.array([*found.scales.values()])
    assert np.allclose(rotation @ np.diag(scales) @ upper, linear.numpy(), atol=1e-9)
    assert (scales[0] < 0) == reflected
    assert (scales[1:] > 0).all()


@pytest.mark.parametrize("d", DIMS)
def test_parameters_of_each_kind(d: int) -> None:
    centre = torch.arange(d).double()
    turn = torch.zeros(1 if d == 2 else 3).double()
    turn[-1] = 0.1
    shift = torch.full((d,), 2.0).double()
    rigid = describe_linear(Rigid(torch.cat([turn, shift]), centre))
    assert rigid.rotation_deg["z"] == pytest.approx(np.rad2deg(0.1))
    assert rigid.translation_mm == dict.fromkeys("xyz"[:d], 2.0)
    assert len(rigid.lines()) == 2
    scale = torch.tensor([0.2]).double()
    similar = describe_linear(Similarity(torch.cat([turn, scale, shift]), centre))
    assert list(similar.scales.values()) == pytest.approx([np.exp(0.2)] * d)
    assert [line.split(":")[0] for line in similar.lines()] == [
        "rotation, degrees",
        "translation, mm",
        "scale",
    ]
    assert set(similar.as_dict()) == {
        "centre_mm",
        "rotation_deg",
        "translation_mm",
        "scales",
        "shears",
    }


def test_lines_name_the_axes_of_the_patient() -> None:
    shear = about(np.array([[1, 0.25, 0], [0, 1, 0], [0, 0, 2.0]]), [0, 0, 0], [1, 0, -2])
    assert describe_linear(shear).lines() == [
        "rotation, degrees: x 0.000 (left-right), y 0.000 (posterior-anterior), "
        "z 0.000 (inferior-superior)",
        "translation, mm: x 1.000, y 0.000, z -2.000, of the centre (0.0, 0.0, 0.0)",
        "scale: x 1.0000, y 1.0000, z 2.0000",
        "shear: xy 0.2500, xz 0.0000, yz 0.0000",
    ]


def test_batches_and_singular_transforms_are_rejected() -> None:
    with pytest.raises(ValueError, match="batch of 2"):
        describe_linear(Translation(torch.zeros(2, 3).double(), torch.zeros(3).double()))
    with pytest.raises(ValueError, match="singular"):
        describe_linear(about(np.diag([1.0, 0, 1]), [0, 0, 0], [0, 0, 0]))
