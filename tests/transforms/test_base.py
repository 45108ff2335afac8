"""Properties of all transforms: chains, merging, inverses, Jacobians, batches."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from stn3d.grid import Grid
from stn3d.transforms import (
    Affine,
    Chain,
    DisplacementField,
    Linear,
    Rigid,
    Similarity,
    Transform,
    VelocityField,
    chain,
    split_linear,
)
from tests.helpers.geometry_cases import DIMS, oblique, random, smooth_field, uniform

KINDS: tuple[type[Linear], ...] = (Rigid, Similarity, Affine)


def linear_of(kind: type[Linear], d: int, seed: int = 0) -> Linear:
    parameters = kind.identity_parameters(d)
    parameters = parameters + random(len(parameters), seed=seed, scale=0.15)
    return kind(parameters, random(d, seed=seed + 1, scale=40))


def every_transform(d: int) -> list[Transform]:
    grid = oblique(d, (9, 8, 7)[:d])
    field = DisplacementField(smooth_field(grid, 1.0), grid)
    velocity = VelocityField(smooth_field(grid, 1.0, seed=3), grid, squarings=4)
    linear: list[Transform] = [linear_of(kind, d, seed) for seed, kind in enumerate(KINDS)]
    return [*linear, field, velocity, Chain((linear[0], field)), Chain((velocity, linear[2]))]


def points_in(grid: Grid, *shape: int, seed: int = 0) -> Tensor:
    unit = uniform(0.15, 0.85, *shape, grid.ndim, seed=seed)
    matrix = grid.world_from_unit
    return unit @ matrix[:-1, :-1].T + matrix[:-1, -1]


@pytest.mark.parametrize("d", DIMS)
def test_then_applies_transforms_in_order(d: int) -> None:
    points = points_in(oblique(d, (9, 8, 7)[:d]), 20)
    for a, b in itertools.permutations(every_transform(d), 2):
        torch.testing.assert_close(a.then(b)(points), b(a(points)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", DIMS)
def test_composition_is_associative(d: int) -> None:
    points = points_in(oblique(d, (9, 8, 7)[:d]), 20)
    transforms = every_transform(d)
    for a, b, c in zip(transforms, transforms[2:], transforms[1:], strict=False):
        left, right = a.then(b).then(c), a.then(b.then(c))
        torch.testing.assert_close(left(points), right(points), rtol=0, atol=1e-9)
        torch.testing.assert_close(left(points), c(b(a(points))), rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", DIMS)
def test_chains_are_flat_and_neighbouring_matrices_one(d: int) -> None:
    rigid, similarity, affine, field, velocity, first, second = every_transform(d)
    whole = chain(rigid, similarity, first, affine, affine, second)
    assert isinstance(whole, Chain)
    # rigid+similarity+rigid | field | affine+affine | velocity | affine
    assert [type(t) for t in whole.transforms] == [
        Affine,
        DisplacementField,
        Affine,
        VelocityField,
        Affine,
    ]
    assert chain(field) is field
    assert isinstance(chain(rigid, rigid.inverse()), Affine)
    assert isinstance(chain(velocity, field), Chain)
    assert whole.ndim == d


@pytest.mark.parametrize("d", DIMS)
def test_parts_of_a_chain_and_its_final_linear_part(d: int) -> None:
    rigid, _, affine, field, velocity, *_ = every_transform(d)
    whole = chain(rigid, field, velocity, affine)
    assert whole.parts == (rigid, field, velocity, affine)
    assert field.parts == (field,)
    before, linear = split_linear(whole)
    assert before is not None
    assert before.parts == (rigid, field, velocity)
    assert linear is affine
    points = points_in(oblique(d, (9, 8, 7)[:d]), 20)
    assert torch.equal(linear(before(points)), whole(points))
    assert split_linear(affine) == (None, affine)
    assert split_linear(chain(field, affine)) == (field, affine)
    assert split_linear(field) == (field, None)
    back = chain(affine, field)
    assert split_linear(back) == (back, None)


@pytest.mark.parametrize("d", DIMS)
def test_a_chain_is_inverted_in_reverse(d: int) -> None:
    points = points_in(oblique(d, (9, 8, 7)[:d]), 20)
    rigid, _, affine, _, velocity, *_ = every_transform(d)
    assert isinstance(velocity, VelocityField)
    whole = chain(affine.then(affine.inverse()), velocity, rigid, affine)
    by_hand = velocity.inverse()(rigid.inverse()(affine.inverse()(points)))
    torch.testing.assert_close(whole.inverse()(points), by_hand, rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", DIMS)
def test_jacobians_equal_finite_differences(d: int) -> None:
    points = points_in(oblique(d, (9, 8, 7)[:d]), 6)
    step = 1e-6
    for transform in every_transform(d):
        columns = []
        for axis in range(d):
            shift = torch.zeros(d).double()
            shift[axis] = step
            columns.append((transform(points + shift) - transform(points - shift)) / (2 * step))
        expected = torch.stack(columns, dim=-1)
        actual = transform.jacobian(points)
        assert actual.shape == (6, d, d)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("d", DIMS)
def test_jacobian_works_within_no_grad(d: int) -> None:
    points = points_in(oblique(d, (9, 8, 7)[:d]), 4)
    for transform in every_transform(d):
        expected = transform.jacobian(points)
        with torch.no_grad():
            actual = transform.jacobian(points)
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("d", DIMS)
def test_gradcheck_of_every_transform_in_its_points(d: int) -> None:
    points = points_in(oblique(d, (9, 8, 7)[:d]), 2).requires_grad_()
    for transform in every_transform(d):
        assert gradcheck(transform.forward, points)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_of_any_shape_keep_shape_and_dtype(d: int, dtype: torch.dtype) -> None:
    points = points_in(oblique(d, (9, 8, 7)[:d]), 2, 3, 2)
    for transform in every_transform(d):
        expected = transform(points)
        for some in (points[0, 0, 0], points[0, 0], points[:1], points):
            mapped = transform(some.to(dtype))
            assert mapped.shape == some.shape
            assert mapped.dtype == dtype
        tolerance = 1e-3 if dtype == torch.float32 else 1e-12
        last = transform(points.to(dtype)).double()
        torch.testing.assert_close(last, expected, rtol=0, atol=tolerance)
        assert transform(points[0, 0, :0]).shape == (0, d)


def test_transforms_of_different_dimensions_cannot_be_chained() -> None:
    with pytest.raises(ValueError, match="the same dimension"):
        chain(Rigid.identity(2), Rigid.identity(3))
    with pytest.raises(ValueError, match="at least one"):
        chain()


@pytest.mark.parametrize("d", DIMS)
def test_gradients_exist_after_a_first_use_without_gradients(d: int) -> None:
    """Values cached by one evaluation must not remove the gradients of a later one."""
    grid = oblique(d)
    points = grid.points_mm()
    leaves = {kind: kind.identity_parameters(d).requires_grad_() for kind in KINDS}
    transforms: list[Transform] = [kind(leaf, grid.centre_mm) for kind, leaf in leaves.items()]
    velocity = smooth_field(grid, 1.0).requires_grad_()
    transforms.append(VelocityField(velocity, grid))
    for transform, leaf in zip(transforms, [*leaves.values(), velocity], strict=True):
        with torch.no_grad():
            before = transform(points)
        after = transform(points)
        torch.testing.assert_close(after, before)
        after.square().sum().backward()
        assert leaf.grad is not None
        assert float(leaf.grad.abs().max()) > 0
