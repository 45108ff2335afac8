"""Images of other packages in memory that cannot be used, and arrays with an affine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Flip

from stn3d.errors import InputError
from stn3d.io import as_image
from tests.io.cases import AFFINE, SHAPE, numbers


@pytest.mark.parametrize(
    "values", [numbers(), torch.from_numpy(numbers()), torch.from_numpy(numbers())[None, None]]
)
def test_an_array_and_its_affine(values: Any) -> None:
    for affine in (AFFINE, AFFINE.tolist(), torch.from_numpy(AFFINE)):
        image = as_image((values, affine))
        assert torch.equal(image.values[0, 0], torch.from_numpy(numbers()).int())
        np.testing.assert_array_equal(image.grid.world_from_index.numpy(), AFFINE)


def test_a_2d_array_and_its_affine() -> None:
    plane = np.array([[2.0, 0, 3], [0, 1.5, 4], [0, 0, 1]])
    image = as_image((numbers(7, 6), plane))
    assert image.grid.shape == (7, 6)
    np.testing.assert_array_equal(image.grid.world_from_index.numpy(), plane)
    assert as_image((torch.ones(1, 7, 6), plane)).grid.shape == (7, 6)


def several() -> MetaTensor:
    one = MetaTensor(torch.ones(1, *SHAPE), affine=torch.from_numpy(AFFINE))
    return list_data_collate([one, one])


def pending() -> MetaTensor:
    one = MetaTensor(torch.ones(1, *SHAPE), affine=torch.from_numpy(AFFINE))
    return Flip(0, lazy=True)(one)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (several(), r"batch of 2 images; give one at a time \(monai.data.decollate_batch\)"),
        (pending(), "pending operations"),
        (MetaTensor(torch.ones(1, 3, 3, 3, dtype=torch.complex64)), "complex"),
        (sitk.Image([3, 3, 3], sitk.sitkComplexFloat32), "complex"),
        (sitk.Image([3, 3, 3], sitk.sitkVectorFloat32), "vectors that are no colours"),
        ((numbers(), np.eye(5)), r"affine of the image in memory has shape \(5, 5\)"),
        ((numbers(), np.eye(3)), r"shape \(7, 6, 5\) and a 3x3 affine"),
        ((numbers(), np.zeros((4, 4))), "singular"),
        ((numbers(*SHAPE, 2), np.eye(4)), "holds 2 volumes"),
        ((numbers(*SHAPE, 1, 2), np.eye(4)), "2 volumes"),
        ((numbers(4), np.eye(4)), "2 or 3 axes"),
        ((numbers(), "affine"), "no numbers"),
        ((numbers(), np.eye(4), 1), "is a tuple; give a path"),
        (numbers(), "is a ndarray; give a path"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(source: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        as_image(source)
