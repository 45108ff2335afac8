"""Arguments as plain tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from stn3d.arguments import plain_tensor, points_tensor
from stn3d.errors import InputError

NUMBERS = [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "values",
    [
        MetaTensor(torch.tensor(NUMBERS)),
        np.array(NUMBERS),
        np.array(NUMBERS, ">f4"),
        np.array(NUMBERS, np.float32)[::-1].copy()[::-1],
        np.asfortranarray(NUMBERS),
        np.array(NUMBERS, np.longdouble),
        NUMBERS,
        tuple(map(tuple, NUMBERS)),
        [torch.tensor([1.0, 2.0]), MetaTensor(torch.tensor([3.0, 4.0]))],
    ],
)
def test_the_numbers_are_kept_in_a_plain_tensor(values: object) -> None:
    tensor = plain_tensor(values)  # type: ignore[arg-type]
    assert type(tensor) is torch.Tensor
    assert tensor.tolist() == NUMBERS


def test_a_plain_tensor_and_a_parameter_are_returned_as_they_are() -> None:
    for tensor in (torch.ones(2), torch.nn.Parameter(torch.ones(2))):
        assert plain_tensor(tensor) is tensor


def test_an_array_that_may_not_be_written_is_copied() -> None:
    array = np.ones(2)
    array.setflags(write=False)
    plain_tensor(array)[0] = 2  # a warning of torch, about undefined behaviour, would be an error
    assert array.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("dtype", "expected"), [("u2", torch.int32), ("u4", torch.int64), ("u8", torch.int64)]
)
def test_unsigned_integers_that_torch_lacks_become_signed(
    dtype: str, expected: torch.dtype
) -> None:
    largest = min(np.iinfo(dtype).max, np.iinfo(np.int64).max)
    tensor = plain_tensor(np.array([largest], dtype))
    assert tensor.dtype == expected
    assert int(tensor) == largest


def test_gradients_flow_to_a_metatensor() -> None:
    values = MetaTensor(torch.ones(2)).requires_grad_()
    (plain_tensor(values) * torch.tensor([2.0, 3.0])).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("image.nii", "holds no numbers"),
        (None, "holds no numbers"),
        ([[1], [1, 2]], "different lengths"),
        ([torch.ones(2), torch.ones(3)], r"one shape; these have \[\(2,\), \(3,\)\]"),
        (np.array([2**63], np.uint64), "beyond 2\\^63"),
    ],
)
def test_what_is_no_tensor_is_one_sentence(values: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        plain_tensor(values)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.uint8, torch.bool])
def test_integer_points_become_float64(dtype: torch.dtype) -> None:
    points = points_tensor(torch.tensor([[1, 0, 1]]).to(dtype))
    assert points.dtype == torch.float64
    assert points.tolist() == [[1, 0, 1]]


def test_floating_point_numbers_keep_their_dtype() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert points_tensor(torch.ones(3, dtype=dtype)).dtype == dtype


def test_complex_numbers_are_no_points() -> None:
    with pytest.raises(InputError, match="complex"):
        points_tensor([1j, 2])
