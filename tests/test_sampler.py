"""The sampler: values, gradients, borders, batches, 2D against 3D."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor
from torch.autograd import gradcheck

from stn3d.sampler import Interpolation, inside, sample, sample_displaced
from tests.helpers.geometry_cases import DIMS, QUICK, off_kinks, random, uniform

SHAPES = {2: (6, 5), 3: (6, 5, 4)}
ALL: tuple[Interpolation, ...] = ("linear", "nearest", "cubic")
SMOOTH: tuple[Interpolation, ...] = ("linear", "cubic")
ORDERS: dict[Interpolation, int] = {"linear": 1, "nearest": 0, "cubic": 3}


def by_scipy(image: Tensor, points: Tensor, interpolation: Interpolation) -> Tensor:
    """An image ``(*shape,)`` at points ``(N, d)`` by scipy's mirrored splines."""
    values = ndimage.map_coordinates(
        image.numpy(), points.T.numpy(), order=ORDERS[interpolation], mode="mirror"
    )
    return torch.from_numpy(np.asarray(values))


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("interpolation", SMOOTH)
def test_gradcheck_in_image_and_points(d: int, interpolation: Interpolation) -> None:
    shape = (3, 4, 2)[:d]
    image = random(2, 1, *shape).requires_grad_()
    points = torch.stack([off_kinks(shape, 2, seed=s) for s in (0, 3)]).requires_grad_()
    assert gradcheck(lambda i, p: sample(i, p, interpolation), (image, points))


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("interpolation", SMOOTH)
def test_gradcheck_with_points_in_blocks(d: int, interpolation: Interpolation) -> None:
    image = random(1, 1, *(3, 4, 2)[:d]).requires_grad_()
    points = off_kinks((3, 4, 2)[:d], 8)[None].requires_grad_()
    assert gradcheck(lambda i, p: sample(i, p, interpolation), (image, points))


@pytest.mark.parametrize("d", DIMS)
def test_cubic_is_smooth_at_integer_indices(d: int) -> None:
    image = random(1, 1, *SHAPES[d])
    points = torch.full((1, 2, d), 2.0).double().requires_grad_()
    assert gradcheck(lambda p: sample(image, p, "cubic"), points)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("interpolation", ALL)
def test_values_agree_with_scipy(d: int, interpolation: Interpolation) -> None:
    image = random(1, 1, *SHAPES[d])
    points = off_kinks(SHAPES[d], 200)
    points = points[((points % 1 - 0.5).abs() > 1e-6).all(-1)]
    expected = by_scipy(image[0, 0], points, interpolation)
    torch.testing.assert_close(sample(image, points[None], interpolation)[0, 0], expected)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("interpolation", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_integer_indices_give_the_voxels(
    d: int, interpolation: Interpolation, dtype: torch.dtype
) -> None:
    image = random(2, 3, *SHAPES[d]).to(dtype)
    axes = [torch.arange(n, dtype=torch.float64) for n in SHAPES[d]]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)[None]
    moved = sample(image, points, interpolation)
    assert moved.dtype == dtype
    torch.testing.assert_close(moved, image, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("interpolation", ALL)
def test_coordinates_are_clamped_up_to_the_faces(d: int, interpolation: Interpolation) -> None:
    image = random(1, 1, *SHAPES[d])
    for axis, n in enumerate(SHAPES[d]):
        points = torch.full((6, d), 1.0).double()
        points[:, axis] = torch.tensor([-0.501, -0.5, -0.3, n - 0.7, n - 0.501, n - 0.5])
        values = sample(image, points[None], interpolation, outside_value=-7)[0, 0]
        assert (values[[0, 5]] == -7).all()
        if interpolation == "cubic":
            expected = by_scipy(image[0, 0], points[1:5], "cubic")
        else:
            expected = by_scipy(image[0, 0], points[1:5].round(), "nearest")
            points[:, axis] = points[:, axis].clamp(0, n - 1)
            expected = by_scipy(image[0, 0], points[1:5], "nearest")
        torch.testing.assert_close(values[1:5], expected)


def test_nearest_rounds_halves_up() -> None:
    image = torch.arange(4.0)[None, None, :, None].expand(1, 1, 4, 2)
    points = torch.tensor([[-0.5, 0], [0.5, 0], [1.5, 0], [2.5, 0], [2.4999, 0]])[None]
    assert sample(image, points, "nearest").flatten().tolist() == [0, 1, 2, 3, 2]


def test_inside_is_half_open_in_every_axis() -> None:
    points = torch.tensor([[-0.5, -0.5], [3.5, 0], [0, 2.5], [3.499, 2.499], [-0.501, 0]])
    assert inside(points, (4, 3)).tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("interpolation", ALL)
def test_nan_and_infinite_points_give_the_outside_value(interpolation: Interpolation) -> None:
    image = random(1, 1, 4, 4, 4)
    image.requires_grad_(interpolation != "nearest")
    far = [math.nan, math.inf, -math.inf, 1e30, -1e30]
    points = torch.ones(len(far), 3).double()
    points[:, 1] = torch.tensor(far).double()
    values = sample(image, points[None], interpolation, outside_value=0.1)
    assert (values == 0.1).all()  # in float64, not rounded to float32
    if interpolation != "nearest":
        values.sum().backward()
        assert image.grad is not None
        assert (image.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_nearest_keeps_integers(dtype: torch.dtype) -> None:
    image = torch.arange(24).reshape(1, 1, 4, 3, 2).to(dtype) * 5
    image[0, 0, 3, 2, 1] = torch.iinfo(dtype).max
    values = sample(image, torch.tensor([[[3.2, 1.9, 1.1], [0.4, 0.6, 0], [9, 0, 0]]]), "nearest")
    assert values.dtype == dtype
    assert values.flatten().tolist() == [torch.iinfo(dtype).max, 10, 0]


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("interpolation", ALL)
def test_a_batch_equals_a_loop(d: int, interpolation: Interpolation) -> None:
    images = random(3, 2, *SHAPES[d])
    points = uniform(-1, 6, 3, 4, 2, d)
    together = sample(images, points, interpolation)
    assert together.shape == (3, 2, 4, 2)
    alone = [sample(images[b : b + 1], points[b : b + 1], interpolation) for b in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))
    shared = sample(images, points[:1], interpolation)
    torch.testing.assert_close(shared[2:], sample(images[2:], points[:1], interpolation))
    many = sample(images[:1], points, interpolation)
    torch.testing.assert_close(many[2:], sample(images[:1], points[2:], interpolation))


@QUICK
@given(st.integers(0, 17), st.sampled_from(ALL))
def test_any_number_of_points_equals_one_by_one(count: int, interpolation: Interpolation) -> None:
    image = random(1, 2, 5, 4, 3)
    points = uniform(-1, 5, 1, count, 3)
    together = sample(image, points, interpolation)
    assert together.shape == (1, 2, count)
    for n in range(count):
        one = sample(image, points[:, n : n + 1], interpolation)
        torch.testing.assert_close(together[:, :, n : n + 1], one)


@QUICK
@given(st.integers(0, 10**6), st.sampled_from(ALL), st.sampled_from((1, 2, 5)))
def test_2d_equals_a_slice_of_3d(seed: int, interpolation: Interpolation, depth: int) -> None:
    flat = random(1, 1, 6, 5, seed=seed)
    points = uniform(-1, 6, 1, 30, 2, seed=seed + 1)
    along_k = uniform(-0.5, depth - 0.5, 1, 30, 1, seed=seed + 2)
    solid = flat[..., None].expand(1, 1, 6, 5, depth)
    torch.testing.assert_close(
        sample(solid, torch.cat([points, along_k], -1), interpolation),
        sample(flat, points, interpolation),
    )


@pytest.mark.parametrize("interpolation", ALL)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 2), (2, 2, 2), (4, 1)])
def test_axes_of_one_or_two_voxels(interpolation: Interpolation, shape: tuple[int, ...]) -> None:
    image = random(1, 1, *shape)
    size = torch.tensor(shape)
    middle = off_kinks(shape, 40)
    points = torch.where(size == 1, uniform(-0.5, 0.5, 40, len(shape), seed=5), middle)
    points = points[((points % 1 - 0.5).abs() > 1e-6).all(-1)]
    expected = by_scipy(image[0, 0], torch.where(size == 1, 0.0, points), interpolation)
    torch.testing.assert_close(sample(image, points[None], interpolation)[0, 0], expected)


def test_linear_and_cubic_reproduce_polynomials() -> None:
    axis = torch.arange(40.0).double()
    points = uniform(17, 22, 1, 50, 2)
    plane = (2 * axis[:, None] - 3 * axis + 1)[None, None]
    expected = 2 * points[0, :, 0] - 3 * points[0, :, 1] + 1
    torch.testing.assert_close(sample(plane, points)[0, 0], expected)
    curve = ((axis[:, None] - 20) ** 3 * (1 + axis / 40))[None, None]
    expected = (points[0, :, 0] - 20) ** 3 * (1 + points[0, :, 1] / 40)
    torch.testing.assert_close(sample(curve, points, "cubic")[0, 0], expected, rtol=0, atol=1e-4)


def test_points_keep_their_precision_in_a_large_float32_image() -> None:
    axis = torch.arange(2000.0)
    image = axis[None, None, :, None].expand(1, 1, 2000, 3)
    points = uniform(0, 1999, 1, 500, 2)
    points[..., 1] = 1
    error = sample(image, points)[0, 0].double() - points[0, :, 0]
    assert float(error.abs().max()) < 5e-4


def test_gradients_exist_after_a_first_use_in_inference_mode() -> None:
    points = off_kinks((13, 13), 4)[None]
    with torch.inference_mode():
        sample(random(1, 1, 13, 13), points, "cubic")
    image = random(1, 1, 13, 13).requires_grad_()
    sample(image, points, "cubic").sum().backward()
    assert image.grad is not None
    assert float(image.grad.abs().sum()) > 1


@pytest.mark.parametrize(
    ("image", "points"),
    [((1, 1, 4, 4), (1, 5, 3)), ((1, 4, 4), (1, 5, 2)), ((1, 1, 4, 4, 4), (3,))],
)
def test_mismatched_shapes_are_rejected(image: tuple[int, ...], points: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="needed; got"):
        sample(torch.zeros(image), torch.zeros(points))


def test_unknown_interpolation_is_rejected() -> None:
    with pytest.raises(ValueError, match="one of linear, nearest, cubic"):
        sample(torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 2), "sinc")  # type: ignore[arg-type]


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("interpolation", ALL)
def test_integer_displacements_shift_an_image(d: int, interpolation: Interpolation) -> None:
    image = random(2, 3, *SHAPES[d])
    by = torch.zeros(2, d, *SHAPES[d], dtype=image.dtype)
    by[0, 0], by[1, -1] = 1, -2
    shifted = sample_displaced(image, by, interpolation)
    torch.testing.assert_close(shifted[0, :, :-1], image[0, :, 1:])
    torch.testing.assert_close(shifted[1, ..., 2:], image[1, ..., :-2])
    assert (shifted[0, :, -1] == 0).all()
    assert (shifted[1, ..., :2] == 0).all()


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.bool])
def test_whole_numbers_are_rounded_and_keep_their_dtype(
    interpolation: Interpolation, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 2 if dtype == torch.bool else 200, (1, 1, 6, 5), generator=generator)
    points = 4 * torch.rand(1, 50, 2, generator=generator)
    found = sample(image.to(dtype), points, interpolation)
    exact = sample(image.double(), points, interpolation)
    expected = exact.round().clamp(int(image.min()), int(image.max()))
    assert found.dtype == dtype
    assert torch.equal(found.double(), expected.to(dtype).double())
