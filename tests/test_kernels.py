"""The hot loops against plain torch, SciPy's filters and by what must hold."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.autograd import gradcheck

from stn3d import kernels
from stn3d.errors import InputError
from stn3d.kernels import box_sum, gaussian_smooth, reference
from stn3d.kernels.dispatch import fused
from tests.helpers.geometry_cases import random, uniform

SHAPES = [(7, 5), (6, 7, 5), (1, 6), (5, 1, 4)]
DTYPES = [torch.float32, torch.float64]
BATCHES = [(1, 1), (2, 2), (2, 1), (1, 2)]


def assert_alike(
    kernel: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> None:
    """Values, and derivatives by all inputs that carry any, are the reference's."""
    wanted = [x for x in inputs if x.requires_grad]
    actual, expected = kernel(*inputs), plain(*inputs)
    assert actual.dtype == expected.dtype
    close = {"rtol": 1e-4, "atol": 2e-5} if actual.dtype == torch.float32 else {}
    torch.testing.assert_close(actual, expected, **close)
    if wanted:
        upstream = random(1, *actual.shape, seed=9)[0].to(actual)
        pair = [torch.autograd.grad(y, wanted, upstream) for y in (actual, expected)]
        for mine, its in zip(*pair, strict=True):
            torch.testing.assert_close(mine, its, **close)


def strided(tensor: Tensor) -> Tensor:
    """The same values with gaps in memory and the axes in another order."""
    apart = torch.stack([tensor, tensor + 1], dim=-1).transpose(0, -2).contiguous()
    return apart.transpose(0, -2)[..., 0].detach()


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("dtype", "points_dtype"),
    [
        (torch.float32, torch.float32),
        (torch.float32, torch.float64),
        (torch.float64, torch.float64),
        (torch.float64, torch.float32),
    ],
)
@pytest.mark.parametrize("batches", BATCHES)
def test_sample_linear_is_the_reference(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    points_dtype: torch.dtype,
    batches: tuple[int, int],
) -> None:
    image = strided(random(batches[0], 3, *shape)).to(dtype).requires_grad_()
    points = strided(uniform(-1.5, 8, batches[1], 300, len(shape))).to(points_dtype)
    inputs = (image, points.requires_grad_())
    assert_alike(kernels.sample_linear, reference.sample_linear, inputs)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257])
def test_sample_linear_takes_any_number_of_points(count: int) -> None:
    image, points = random(1, 2, 5, 4, 3).float(), uniform(-1, 5, 1, count, 3)
    assert_alike(kernels.sample_linear, reference.sample_linear, (image, points))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batches", [(20, 20), (20, 1), (1, 20)])
def test_a_large_batch_is_read_item_by_item(
    shape: tuple[int, ...], batches: tuple[int, int]
) -> None:
    image = strided(random(batches[0], 2, *shape)).float().requires_grad_()
    points = strided(uniform(-1.5, 8, batches[1], 300, len(shape))).float().requires_grad_()
    upstream = random(20, 2, 300, seed=3).float()
    assert_alike(kernels.sample_linear, reference.sample_linear, (image, points))
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 5):
            torch.set_num_threads(count)
            values = kernels.sample_linear(image, points)
            found.append([values, *torch.autograd.grad(values, (image, points), upstream)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def matrices(d: int, batch: int, amount: float = 0.2) -> Tensor:
    """Homogeneous matrices that turn, stretch and shift a little."""
    square = torch.eye(d + 1).double().repeat(batch, 1, 1)
    square[:, :d] += amount * random(batch, d, d + 1, seed=4)
    square[:, :d, d] *= 5
    return square


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batches", [(1, 1), (5, 5), (5, 1), (1, 5)])
@pytest.mark.parametrize("wanted", ["own", "other"])
def test_sample_affine_is_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, batches: tuple[int, int], wanted: str
) -> None:
    d = len(shape)
    image = strided(random(batches[0], 3, *shape)).to(dtype).requires_grad_()
    matrix = matrices(d, batches[1]).requires_grad_()
    out = shape if wanted == "own" else (7, 5, 19)[-d:]
    assert_alike(
        lambda a, b: kernels.sample_affine(a, b, out),
        lambda a, b: reference.sample_affine(a, b, out),
        (image, matrix),
    )


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("batch", [1, 3])
def test_sample_affine_has_the_right_gradients(d: int, batch: int) -> None:
    image = random(batch, 2, *(6, 5, 7)[:d]).requires_grad_()
    matrix = matrices(d, batch, 0.1).requires_grad_()
    assert gradcheck(lambda a, b: kernels.sample_affine(a, b, (4, 5, 6)[:d]), (image, matrix))


@pytest.mark.parametrize("d", [2, 3])
def test_sample_affine_does_not_depend_on_threads(d: int) -> None:
    image = random(2, 2, *(16, 15, 14)[:d]).float().requires_grad_()
    matrix = matrices(d, 2).requires_grad_()
    found = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 5):
            torch.set_num_threads(count)
            values = kernels.sample_affine(image, matrix, (20, 18, 16)[:d])
            found.append([values, *torch.autograd.grad(values.square().sum(), (image, matrix))])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_lattice_beyond_the_image_reads_nothing_and_gives_nothing() -> None:
    for d in (2, 3):
        image = torch.full((1, 1, *(4,) * d), math.nan).requires_grad_()
        for far in (math.nan, math.inf, 1e300, -40.0):
            matrix = torch.eye(d + 1).double()[None].clone()
            matrix[0, 0, d] = far
            values = kernels.sample_affine(image, matrix.requires_grad_(), (4,) * d)
            assert (values == 0).all()
            for slope in torch.autograd.grad(values.sum(), (image, matrix)):
                assert (slope == 0).all()


def test_points_that_are_nowhere_read_nothing_and_give_nothing() -> None:
    image = torch.full((1, 1, 4, 4, 4), math.nan).requires_grad_()
    far = [math.nan, math.inf, -math.inf, 1e300, -1e300, 2.0**31, 2.0**32 + 1]
    points = torch.ones(1, 3 * len(far), 3).double()
    for axis in range(3):
        points[0, axis::3, axis] = torch.tensor(far).double()
    for kind in DTYPES:
        at = points.to(kind).requires_grad_()
        values = kernels.sample_linear(image, at)
        assert (values == 0).all()
        for slope in torch.autograd.grad(values.sum(), (image, at)):
            assert (slope == 0).all()


def test_volumes_that_31_bits_cannot_count_go_to_plain_torch() -> None:
    voxel = torch.zeros(1, 1, 1, 1, 1)
    assert fused(voxel.expand(1, 1, 2048, 2048, 511), None)
    assert not fused(voxel, voxel.expand(1, 1, 2048, 2048, 512))
    assert not fused(voxel.half())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batches", BATCHES)
def test_compose_is_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, batches: tuple[int, int]
) -> None:
    d = len(shape)
    inputs = [
        strided(random(b, d, *shape, seed=b, scale=1.5)).to(dtype).requires_grad_() for b in batches
    ]
    assert_alike(kernels.compose, lambda a, b: reference.compose(*_alike(a, b)), inputs)


def _alike(a: Tensor, b: Tensor) -> list[Tensor]:
    return list(torch.broadcast_tensors(a, b))


@pytest.mark.parametrize("shape", SHAPES)
def test_exponential_is_repeated_composition(shape: tuple[int, ...]) -> None:
    velocity = random(1, len(shape), *shape, scale=0.5).float().requires_grad_()

    def plain(v: Tensor) -> Tensor:
        u = v / 8
        for _ in range(3):
            u = reference.compose(u, u)
        return u

    assert_alike(lambda v: kernels.exponential(v, 3), plain, [velocity])


@pytest.mark.parametrize("shape", SHAPES)
def test_reading_and_composing_have_the_right_gradients(shape: tuple[int, ...]) -> None:
    d = len(shape)
    image, field = random(1, 2, *shape), random(1, d, *shape, seed=1, scale=0.4)
    points = uniform(0.1, 0.9, 2, 3, d) + torch.tensor([n // 2 - 0.0 for n in shape])
    wanted = [x.requires_grad_() for x in (image, points)]
    assert gradcheck(kernels.sample_linear, wanted, fast_mode=True)
    fields = [field.requires_grad_(), random(1, d, *shape, seed=2).requires_grad_()]
    assert gradcheck(kernels.compose, fields, fast_mode=True)
    assert gradcheck(lambda v: kernels.exponential(v, 2), fields[:1], fast_mode=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_warp_is_the_reference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    d = len(shape)
    image = strided(random(1, 2, *[n + (n > 1) for n in shape])).to(dtype)
    matrix = torch.eye(d + 1).double()
    matrix[:d] += random(d, d + 1, scale=0.1)
    displacement = strided(random(1, d, *shape, seed=1, scale=0.3)).to(dtype)
    close = {"rtol": 1e-4, "atol": 2e-5} if dtype == torch.float32 else {}
    actual = kernels.warp(image, matrix, displacement)
    expected = reference.warp(image, matrix, displacement)
    for mine, its in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, its, **close)


Rows = Literal["shifted", "straight", "askew"]
"""Rows of the wanted grid on the image's voxels, along its last axis, or leaning."""


def resampling(
    shape: tuple[int, ...], dtype: torch.dtype, moved: bool, rows: Rows
) -> tuple[Tensor, Tensor, tuple[int, ...], kernels.Moves | None]:
    """An image, a matrix, a wanted shape and a field."""
    d = len(shape)
    matrix, own = torch.eye(d + 1).double(), torch.eye(d + 1).double()
    wide = torch.tensor(shape) > 1
    matrix[:d, -1], own[:d, -1] = (wide * torch.tensor(by[:d]) for by in ([-1, 2, 1], [1, -2, 0]))
    if rows != "shifted":
        matrix[:d] += random(d, d + 1, scale=0.1)
        own[:d] += random(d, d + 1, seed=1, scale=0.1)
    if rows == "straight":
        matrix[: d - 1, d - 1], own[: d - 1, d - 1] = 1e-17, 0
    image = strided(random(1, 2, *shape)).to(dtype)
    vectors = strided(random(1, d, *[n + (n > 1) for n in shape], seed=2)).to(dtype)
    linear = torch.eye(d).double() + random(d, d, seed=3, scale=0.2)
    moves = kernels.Moves(vectors, own, linear) if moved else None
    return image, matrix, tuple(n + 2 * (n > 1) for n in shape), moves


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("rows", get_args(Rows))
@pytest.mark.parametrize("outside", [0.0, -7.5])
def test_resample_is_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, moved: bool, rows: Rows, outside: float
) -> None:
    case = resampling(shape, dtype, moved, rows)
    close = {"rtol": 1e-4, "atol": 2e-5} if dtype == torch.float32 else {}
    actual = kernels.resample(*case, outside)
    expected = reference.resample(*case, outside)
    torch.testing.assert_close(actual, expected, **close)
    assert 0 < int((expected == outside).sum()) < expected.numel()


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_resample_has_the_right_gradients(shape: tuple[int, ...]) -> None:
    image, matrix, wanted, moves = resampling(shape, torch.float64, True, "askew")
    assert moves is not None
    assert gradcheck(
        lambda i, m, v: kernels.resample(i, m, wanted, moves._replace(vectors=v)),
        [x.requires_grad_() for x in (image, matrix, moves.vectors)],
        fast_mode=True,
    )
    for rows in get_args(Rows):
        image, *others = resampling(shape, torch.float64, False, rows)
        assert_alike(
            lambda i, o=others: kernels.resample(i, *o),
            lambda i, o=others: reference.resample(i, *o),
            [image.requires_grad_()],
        )


@pytest.mark.parametrize("shift", [-9, -4, -3, 0, 4, 5, 12])
@pytest.mark.parametrize("axis", [0, 1])
def test_resample_by_whole_voxels_in_the_image_and_beyond(shift: int, axis: int) -> None:
    image = torch.arange(1.0, 31).reshape(1, 1, 5, 6)
    matrix = torch.eye(3).double()
    matrix[axis, 2] = shift
    moved = kernels.resample(image, matrix, (4, 4), outside_value=-1.0)
    for i in range(4):
        for j in range(4):
            a, b = i + shift * (axis == 0), j + shift * (axis == 1)
            inside = 0 <= a < 5 and 0 <= b < 6
            assert float(moved[0, 0, i, j]) == (float(image[0, 0, a, b]) if inside else -1)


def test_resample_keeps_the_precision_of_coordinates() -> None:
    """A float32 index has no digits left for a hundred-thousandth of a voxel at number 3000."""
    image = torch.zeros(1, 1, 2, 4000)
    image[..., 1::2] = 1
    matrix = torch.eye(3).double()
    matrix[1, 1], matrix[1, 2] = 1 / 64, 3000 + 1e-5
    row = kernels.resample(image, matrix, (2, 64))[0, 0, 0]
    expected = torch.arange(64).double() / 64 + 1e-5
    torch.testing.assert_close(row.double(), expected, rtol=0, atol=1e-7)


def test_resample_reads_nothing_where_there_is_nothing() -> None:
    image = torch.full((1, 1, 4, 4, 4), math.nan)
    vectors = torch.full((1, 3, 2, 2, 2), math.nan)
    far = torch.eye(4).double()
    far[:3, 3] = 1e18
    matrix = 1.5 * torch.eye(4).double()
    matrix[3, 3], matrix[:3, 3] = 1, 9
    for own in (far, matrix):
        moves = kernels.Moves(vectors, own, torch.eye(3).double())
        assert (kernels.resample(image, matrix, (3, 3, 3), moves, 2.0) == 2).all()


# -- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [*SHAPES, (2, 2, 2), (1, 1, 1)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_jacobian_determinant_is_the_reference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    field = strided(random(2, len(shape), *shape)).to(dtype)
    plain = reference.jacobian_determinant
    assert_alike(kernels.jacobian_determinant, plain, [field])
    double = field.double().requires_grad_()
    assert gradcheck(kernels.jacobian_determinant, double, fast_mode=True)


def test_jacobian_determinant_of_a_linear_map_is_its_matrixs() -> None:
    matrix = torch.eye(3) + random(3, 3, scale=0.2).float()
    field = reference.points_of((4, 5, 6), matrix) @ (matrix - torch.eye(3)).T
    found = kernels.jacobian_determinant(field.movedim(-1, 0)[None])
    torch.testing.assert_close(found, torch.linalg.det(matrix).expand(1, 4, 5, 6))


@pytest.mark.parametrize("shape", [(14, 13), (12, 11, 10), (1, 12, 9)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_invert_solves_what_the_reference_solves(
    shape: tuple[int, ...], dtype: torch.dtype, elsewhere: bool
) -> None:
    d = len(shape)
    field = torch.zeros(2, d, *shape, dtype=dtype)
    free = [a for a, n in enumerate(shape) if n > 1]
    inner = tuple(slice(3, n - 3) if n > 1 else slice(None) for n in shape)
    for a in free:
        part = field[(slice(None), a, *inner)]
        part.copy_(random(*part.shape, seed=a, scale=0.2))
    matrix, wanted = torch.eye(d + 1).double(), shape
    if elsewhere:
        wanted = tuple(max(1, n // 2) for n in shape)
        matrix[free[0], free[1]], matrix[free, -1] = 0.1, 2.3
    spacing = torch.diag(torch.tensor([2.0, 0.5, 1.5])[:d])
    options = (matrix, wanted, spacing, 1e-4, 40)
    found, left_mm = kernels.invert(strided(field), *options)
    expected, _ = reference.invert(field, *options)
    assert found.dtype == dtype
    assert left_mm <= 1e-4
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-4)
    points = reference.points_of(wanted, field.double()) @ matrix[:-1, :-1].T + matrix[:-1, -1]
    at = points + found.double().movedim(1, -1)
    moves = reference.sample_linear(field.double(), at.reshape(2, -1, d))
    gap = (found.double().flatten(2) + moves).movedim(1, -1) @ spacing.double()
    assert float(gap.norm(dim=-1).max()) == pytest.approx(left_mm, abs=1e-5)


# -- histogram ------------------------------------------------------------------------------------


def two_images(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """A fixed image, one like it that reaches below 0 and above 1, and weights."""
    fixed = uniform(0, 1, 2, 2, *shape)
    moved = 1.3 * (0.7 * fixed + uniform(0, 0.3, 2, 2, *shape, seed=1)) - 0.15
    weight = uniform(0, 1, 1, 1, *shape, seed=2)
    return fixed.to(dtype), moved.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_joint_histogram_is_the_reference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    fixed, moved, weight = two_images(shape, dtype)

    def plain(m: Tensor, w: Tensor) -> Tensor:
        return reference.joint_histogram(fixed, m, w.expand(2, *w.shape[1:]), 7)

    assert_alike(lambda m, w: kernels.joint_histogram(fixed, m, w, 7), plain, (moved, weight))
    total = kernels.joint_histogram(strided(fixed), strided(moved), None, 7).sum(dim=(-2, -1))
    torch.testing.assert_close(total, torch.full_like(total, math.prod(shape)))


@pytest.mark.parametrize("shape", SHAPES)
def test_mutual_information_has_the_right_gradient(shape: tuple[int, ...]) -> None:
    fixed, moved, weight = two_images(shape, torch.float64)
    # away from 0 and 1, where an intensity stops to count as itself
    moved = (0.1 + 0.8 * moved.detach().clamp(0, 1)).requires_grad_()
    assert gradcheck(lambda m, w: kernels.mutual_information(fixed, m, w, 6), (moved, weight))


def test_mutual_information_of_images_that_are_known() -> None:
    levels = torch.arange(8).double() / 7  # every one in the middle of a moved bin, as bins are 10
    fixed, moved = torch.meshgrid(levels, levels, indexing="ij")
    apart = kernels.mutual_information(fixed[None, None], moved[None, None], None, 10)
    assert float(apart) == pytest.approx(0, abs=1e-12)
    same = kernels.mutual_information(fixed[None, None], fixed[None, None], None, 10)
    # each level is known from the fixed image; the moved one's window blurs it, 1/6 2/3 1/6
    window = np.array([1 / 6, 2 / 3, 1 / 6])
    row = np.convolve(np.full(8, 1 / 8), window)
    blurred = -(row * np.log(row)).sum() + (window * np.log(window)).sum()
    assert float(same) == pytest.approx(blurred, abs=1e-9)
    nothing = torch.zeros(1, 1, 8, 8).double()
    assert float(kernels.mutual_information(fixed[None, None], nothing, nothing, 10)) == 0


def test_too_few_bins_are_told() -> None:
    with pytest.raises(InputError, match="5 bins or more"):
        kernels.joint_histogram(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), None, 4)


def test_intensities_that_are_no_numbers_stay_in_the_histogram() -> None:
    image = torch.tensor([math.nan, math.inf, -math.inf, 0.5]).reshape(1, 1, 2, 2)
    assert float(kernels.joint_histogram(image, image, None, 5).sum()) == pytest.approx(4)


# -- windows and smoothing ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_lncc_is_the_reference(shape: tuple[int, ...], dtype: torch.dtype, weighted: bool) -> None:
    fixed, moved, weight = two_images(shape, dtype)
    options = ((2, 1, 3)[: len(shape)], 0.01, 0.02)
    inputs = [strided(fixed).requires_grad_(), strided(moved).requires_grad_()]
    inputs += [weight] if weighted else []

    def by(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda f, m, w=None: loss(f, m, w, *options)

    assert_alike(by(kernels.lncc), by(reference.lncc), inputs)
    if dtype == torch.float64:
        assert gradcheck(by(kernels.lncc), inputs, fast_mode=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("radius", [0, 1, 2])
def test_local_products_are_the_references(
    shape: tuple[int, ...], dtype: torch.dtype, radius: int
) -> None:
    inputs = [random(2, 3, *shape, seed=s).to(dtype).requires_grad_() for s in (0, 1)]
    plain = lambda a, b: reference.local_products(a, b, radius)  # noqa: E731
    assert_alike(lambda a, b: kernels.local_products(a, b, radius), plain, inputs)
    apart = [strided(x).requires_grad_() for x in inputs]
    assert_alike(lambda a, b: kernels.local_products(a, b, radius), plain, apart)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("radius", "dilation"), [(1, 2), (0, 1), (2, 1)])
def test_self_similarity_is_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, radius: int, dilation: int
) -> None:
    image = random(2, 3, *shape).to(dtype)
    noise = torch.tensor([[1e-3, 1.0, 0.1], [0.5, 1e-2, 1e-9]])
    expected = reference.self_similarity(image, noise, radius, dilation)
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {}
    for one in (image, strided(image), image.clone().requires_grad_()):
        found = kernels.self_similarity(one, noise, radius, dilation)
        assert found.requires_grad == one.requires_grad
        torch.testing.assert_close(found.detach(), expected, **close)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [(0, 1, 2), (2, 2, 2), (9, 1, 30)])
def test_box_sum_is_a_convolution_with_ones(
    shape: tuple[int, ...], radius: tuple[int, ...]
) -> None:
    radii = radius[: len(shape)]
    image = random(2, 3, *shape, seed=1)
    ones = np.ones([2 * r + 1 for r in radii])
    expected = np.stack(
        [[ndimage.convolve(c, ones, mode="constant") for c in b] for b in image.numpy()]
    )
    before = image.clone()
    assert np.allclose(box_sum(image, radii).numpy(), expected, atol=1e-11)
    assert torch.equal(image, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_box_sum_has_the_right_gradient(shape: tuple[int, ...]) -> None:
    image = random(1, 2, *shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: box_sum(x, (1, 2, 9)[: len(shape)]), image)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [(0.4, 1.0, 1.7), (3.0, 0.0, 0.5), (6.0, 6.0, 6.0)])
def test_gaussian_smooth_is_scipys_filter(shape: tuple[int, ...], sigma: tuple[float, ...]) -> None:
    sigmas = sigma[: len(shape)]
    image = random(2, 1, *shape, seed=2)
    expected = image.numpy()
    for axis, s in enumerate(sigmas, start=2):
        if s > 0:
            expected = ndimage.gaussian_filter1d(
                expected, s, axis, mode="nearest", radius=max(1, math.ceil(3 * s))
            )
    before = image.clone()
    assert np.allclose(gaussian_smooth(image, sigmas).numpy(), expected, atol=1e-12)
    assert torch.equal(image, before)


def test_a_sigma_below_a_tenth_changes_nothing() -> None:
    image = random(1, 1, 5, 6)
    assert torch.equal(gaussian_smooth(image, (0.09, 0.0)), image)


@pytest.mark.parametrize("shape", SHAPES)
def test_gaussian_smooth_keeps_a_constant_and_a_ramps_middle(shape: tuple[int, ...]) -> None:
    sigmas = [0.6] * len(shape)
    constant = torch.full((1, 1, *shape), 3.5)
    assert torch.allclose(gaussian_smooth(constant, sigmas), constant, atol=1e-6)
    ramp = torch.arange(9.0).reshape(1, 1, 9, 1).expand(1, 1, 9, 4)
    assert torch.allclose(gaussian_smooth(ramp, (0.6, 0.6))[..., 2:7, :], ramp[..., 2:7, :])


def test_gaussian_smooth_carries_no_gradient() -> None:
    image = random(1, 1, 5, 5).requires_grad_()
    assert not gaussian_smooth(image, (1.0, 1.0)).requires_grad


# -- threads, processes, the cache ----------------------------------------------------------------


def everything() -> list[Tensor]:
    """What every kernel gives, and its derivatives."""
    image, field = random(2, 1, 9, 8, 7).float(), random(1, 3, 9, 8, 7, scale=0.5).float()
    fixed, moved, weight = two_images((9, 8, 7), torch.float32)
    points = uniform(-1, 9, 1, 2000, 3).float()
    inputs = [x.requires_grad_() for x in (image, field, points)] + [moved, weight]
    results = [
        kernels.sample_linear(image, points),
        kernels.compose(field, field),
        kernels.lncc(fixed, moved, weight, (2, 2, 2), 0.01, 0.01),
        kernels.joint_histogram(fixed, moved, weight, 8),
        kernels.box_sum(image, (1, 2, 3)),
    ]
    slopes = torch.autograd.grad(sum((r**2).sum() for r in results), inputs)
    plain = field.detach()
    return [
        *[r.detach() for r in results],
        *slopes,
        kernels.gaussian_smooth(plain, (1.0, 1.0, 1.0)),
        *kernels.warp(image[:1].detach(), torch.eye(4), plain),
        kernels.resample(
            image[:1].detach(),
            1.1 * torch.eye(4),
            (30, 20, 10),
            kernels.Moves(plain[:1], 0.3 * torch.eye(4), torch.eye(3)),
        ),
        kernels.jacobian_determinant(plain),
        kernels.invert(plain, torch.eye(4), (9, 8, 7), torch.eye(3), 1e-3, 20)[0],
        kernels.local_products(image, image, 1),
        kernels.self_similarity(image, torch.ones(image.shape[:2]), 1, 2),
    ]


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(everything())
    finally:
        torch.set_num_threads(before)
    for one, two, three in zip(*found, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


SCRIPT = """
import os, torch
from stn3d import kernels
torch.set_num_threads(2)
def result():
    field = torch.linspace(-1, 1, 3 * 6 * 5 * 4).reshape(1, 3, 6, 5, 4)
    return kernels.compose(field, field)
expected = result()
child = os.fork() if hasattr(os, "fork") else 0
if child == 0:
    os._exit(0 if torch.equal(result(), expected) else 3)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_loops_are_compiled_once_and_run_in_a_forked_child(tmp_path: Path) -> None:
    folder = {"linux": "XDG_CACHE_HOME", "win32": "LOCALAPPDATA"}.get(sys.platform)
    if folder is None:
        pytest.skip("the cache folder cannot be moved on this system")
    old, young = (tmp_path / "stn3d" / f"kernels-{name}" for name in ("old", "young"))
    for other, days in ((old, 61), (young, 59)):
        other.mkdir(parents=True)
        used = time.time() - 86_400 * days
        os.utime(other, (used, used))
    told = []
    for _ in range(2):
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SCRIPT],
            env={**os.environ, folder: str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        told.append(ended.stderr.count("compiling stn3d's loops"))
    assert told == [1, 0]
    assert list(tmp_path.rglob("*.nbi"))
    assert (old.exists(), young.exists()) == (False, True)
