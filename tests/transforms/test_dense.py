"""Displacement and velocity fields: inverses, exponentials, composition, borders, gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from stn3d.grid import Grid, apply_matrix
from stn3d.transforms import (
    Affine,
    Chain,
    DisplacementField,
    VelocityField,
    compose,
    covering,
    sampled,
)
from tests.helpers.geometry_cases import (
    DIMS,
    make_grid,
    oblique,
    off_kinks,
    random,
    smooth_field,
    taper,
    uniform,
)


def in_world(grid: Grid, vectors_vox: Tensor) -> Tensor:
    """``(1, d, *shape)`` world vectors of index vectors ``(*shape, d)``."""
    return (vectors_vox @ grid.world_from_index[:-1, :-1].T).movedim(-1, 0)[None]


def steep(grid: Grid) -> Tensor:
    """A bijection that fixed-point iteration cannot invert: slopes of 1.5 and -0.5 along one axis.

    Only one component varies, so det(I + grad u) >= 0.5 everywhere.
    """
    at = grid.points_index()[..., 0]
    ramp = torch.minimum(1.5 * (at - 4), 0.5 * (24 - at)).clamp(min=0)
    vectors = torch.zeros(*grid.shape, grid.ndim, dtype=torch.float64)
    others = taper(grid.cropped([0] * grid.ndim, [1, *grid.shape[1:]]).with_shape(grid.shape))
    across = others[grid.shape[0] // 2] / others[grid.shape[0] // 2].max()
    vectors[..., 0] = ramp * across
    return in_world(grid, vectors)


def swirl(grid: Grid, turn: float = 1.5) -> Tensor:
    """A rotation in the plane of the first two axes that fades outward, with det close to 1."""
    centre = (torch.tensor(grid.shape) - 1) / 2
    offset = grid.points_index() - centre
    radius = offset.norm(dim=-1) / float(centre.min())
    angle = turn * (1 - radius**2).clamp(min=0) ** 2
    c, s = angle.cos(), angle.sin()
    vectors = torch.zeros_like(offset)
    vectors[..., 0] = (c - 1) * offset[..., 0] - s * offset[..., 1]
    vectors[..., 1] = s * offset[..., 0] + (c - 1) * offset[..., 1]
    return in_world(grid, vectors)


def box(d: int, n: int = 30) -> Grid:
    shape = (n, n, n // 2)[:d]
    return make_grid(shape, (1, 1, 1), (25, 10, -40), (30, -60, 90), left_handed=True)


def residuals(field: DisplacementField, inverse: DisplacementField) -> Tensor:
    """``|T(inverse(y)) - y|`` at the voxels of the inverse's grid."""
    y = inverse.grid.points_mm()
    return (field(inverse(y)) - y).norm(dim=-1)


def between(grid: Grid, count: int = 2000) -> Tensor:
    """Random world points between the outer voxel centres."""
    unit = uniform(0, 1, count, grid.ndim)
    return apply_matrix(grid.world_from_index, unit * (torch.tensor(grid.shape) - 1))


def plain_fixed_point(field: DisplacementField, steps: int = 40) -> Tensor:
    """Residual of Chen's fixed-point iteration alone."""
    y = field.grid.points_mm()
    w = torch.zeros_like(y)
    for _ in range(steps):
        w = w - (field(y + w) - y)
    return (field(y + w) - y).norm(dim=-1)


# -- inverse --------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("make", [steep, swirl])
def test_inverse_of_a_steep_bijection(d: int, make: Callable[[Grid], Tensor]) -> None:
    grid = box(d)
    field = DisplacementField(make(grid), grid)
    slope = torch.linalg.matrix_norm(field.jacobian(between(grid)) - torch.eye(d), ord=2)
    assert float(slope.max()) > 1.2
    assert float(plain_fixed_point(field).max()) > 0.1
    inverse, residual = field.invert(tolerance_mm=1e-3)
    assert residual <= 1e-3
    assert float(residuals(field, inverse).max()) == pytest.approx(residual, abs=1e-9)
    x = between(grid)
    error = (inverse(field(x)) - x).norm(dim=-1)
    # between voxels the inverse field is linear; the true inverse has kinks
    assert float(error.mean()) < 0.03
    assert float(error.max()) < 0.5


@pytest.mark.parametrize("d", DIMS)
def test_inverse_of_a_gentle_field(d: int) -> None:
    grid = oblique(d, (20, 18, 12)[:d])
    field = DisplacementField(smooth_field(grid, 2.0).float(), grid)
    inverse, residual = field.invert(tolerance_mm=1e-3)
    assert inverse.displacement_mm.dtype == torch.float32
    assert residual <= 1e-3
    x = between(grid)
    error = (inverse(field(x)) - x).norm(dim=-1)
    assert float(error.mean()) < 0.03
    assert float(error.max()) < 0.2 * max(grid.spacing_mm)
    assert float((field.inverse()(x) - inverse(x)).abs().max()) < 0.1


def test_inverse_on_another_grid() -> None:
    grid = box(3)
    field = DisplacementField(swirl(grid, 0.6), grid)
    other = make_grid((9, 8, 7), (2, 3, 2), (0, 50, 10), tuple(grid.centre_mm - 5))
    inverse, residual = field.invert(other, tolerance_mm=1e-3)
    assert inverse.grid is other
    assert float(residuals(field, inverse).max()) == pytest.approx(residual, abs=1e-9)
    assert residual <= 1e-3


@pytest.mark.parametrize("d", DIMS)
def test_the_tolerance_is_respected(d: int) -> None:
    grid = box(d)
    field = DisplacementField(swirl(grid), grid)
    assert field.invert(tolerance_mm=1e-8)[1] <= 1e-8


@pytest.mark.parametrize("d", DIMS)
def test_an_inverse_is_as_exact_in_any_unit(d: int) -> None:
    residuals_vox = []
    for scale in (1.0, 1e-4, 1e3):
        matrix = box(d).world_from_index
        matrix[:-1] *= scale
        grid = Grid(box(d).shape, matrix)
        field = DisplacementField(scale * swirl(box(d)), grid)
        residuals_vox.append(field.invert()[1] / min(grid.spacing_mm))
    assert max(residuals_vox) <= 1e-2
    assert residuals_vox == pytest.approx([residuals_vox[0]] * 3, rel=1e-2)


@pytest.mark.parametrize("d", DIMS)
def test_a_folding_field_has_a_large_residual(d: int) -> None:
    grid = box(d)
    field = DisplacementField(-2.5 * steep(grid), grid)
    assert float(torch.linalg.det(field.jacobian(between(grid))).min()) < 0
    inverse, residual = field.invert(tolerance_mm=1e-3)
    assert float(residuals(field, inverse).max()) == pytest.approx(residual, abs=1e-9)
    x = between(grid)
    assert float((inverse(field(x)) - x).norm(dim=-1).max()) > 1  # there is no inverse here


@pytest.mark.parametrize("d", DIMS)
def test_a_field_that_points_out_of_its_grid_has_a_large_residual(d: int) -> None:
    grid = box(d)
    shift = torch.zeros(*grid.shape, d).double()
    shift[..., 0] = 5.0
    field = DisplacementField(in_world(grid, shift), grid)
    inverse, residual = field.invert(tolerance_mm=1e-3)
    left = residuals(field, inverse)
    assert float(left.max()) == pytest.approx(residual, abs=1e-9)
    assert residual > 1
    # voxels with an origin inside are inverted nevertheless
    assert float(left[6:].max()) <= 1e-3


def test_the_residual_reports_voxels_that_are_not_finite() -> None:
    grid = box(2)
    field = swirl(grid)
    field[0, 0, 15, 15] = math.nan
    assert not DisplacementField(field, grid).invert()[1] <= 1


@pytest.mark.parametrize("d", DIMS)
def test_inverting_a_batch_equals_a_loop(d: int) -> None:
    grid = box(d, 16)
    fields = torch.cat([swirl(grid, turn) for turn in (0.4, -0.7, 1.0)])
    inverse, residual = DisplacementField(fields, grid).invert()
    alone = [DisplacementField(one[None], grid).invert() for one in fields]
    looped = torch.cat([one.displacement_mm for one, _ in alone])
    torch.testing.assert_close(inverse.displacement_mm, looped)
    assert residual == max(left for _, left in alone)


# -- exponential ----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", DIMS)
def test_exponential_and_its_inverse_cancel(d: int) -> None:
    grid = box(d)
    velocity = VelocityField(smooth_field(grid, 3.0), grid)
    x = between(grid)
    assert float((velocity(x) - x).norm(dim=-1).max()) > 1.5
    for there, back in ((velocity, velocity.inverse()), (velocity.inverse(), velocity)):
        assert isinstance(back, VelocityField)
        gap = (back(there(x)) - x).norm(dim=-1)
        assert float(gap.max()) < 0.15
        assert float(gap.mean()) < 0.02


@pytest.mark.parametrize("d", DIMS)
def test_exponential_of_a_linear_velocity_is_the_matrix_exponential(d: int) -> None:
    grid = box(d, 24)
    generator = random(d, d, seed=4, scale=0.12)
    offset = grid.points_mm() - grid.centre_mm
    velocity = VelocityField((offset @ generator.T).movedim(-1, 0)[None], grid, squarings=12)
    x = grid.centre_mm + uniform(-2, 2, 100, d)
    expected = (x - grid.centre_mm) @ torch.linalg.matrix_exp(generator).T + grid.centre_mm
    assert float((expected - x).norm(dim=-1).max()) > 0.4
    torch.testing.assert_close(velocity(x), expected, rtol=0, atol=1e-4)


def test_more_squarings_converge() -> None:
    grid = box(3, 16)
    v = smooth_field(grid, 2.0)
    best = VelocityField(v, grid, 11).displacement.displacement_mm
    gaps = [
        float((VelocityField(v, grid, n).displacement.displacement_mm - best).abs().max())
        for n in (3, 5, 7)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.02


@pytest.mark.parametrize("d", DIMS)
def test_a_finer_grid_of_the_same_velocity_gives_the_same_points(d: int) -> None:
    coarse = box(d, 24)
    fine = coarse.with_shape([2 * n for n in coarse.shape])

    def wave(grid: Grid) -> VelocityField:
        unit = apply_matrix(torch.linalg.inv(coarse.world_from_unit), grid.points_mm())
        bell = torch.sin(math.pi * unit).prod(-1, keepdim=True) ** 2
        values = 2 * bell * torch.cos(2 * unit.flip(-1) + torch.arange(d))
        return VelocityField(values.movedim(-1, 0)[None], grid)

    x = between(coarse)
    there = wave(coarse)(x)
    assert float((there - x).norm(dim=-1).max()) > 1
    gap = (there - wave(fine)(x)).norm(dim=-1)
    assert float(gap.mean()) < 0.02
    assert float(gap.max()) < 0.2


@pytest.mark.parametrize("depth", [1, 3])
def test_in_plane_3d_exponential_equals_2d(depth: int) -> None:
    flat = make_grid((12, 10), (1.5, 0.8), (30,), (5, -9), left_handed=True)
    matrix = torch.eye(4).double()
    matrix[:2, :2], matrix[:2, 3] = flat.world_from_index[:2, :2], flat.world_from_index[:2, 2]
    solid = Grid((12, 10, depth), matrix)
    v = smooth_field(flat, 2.0)
    stacked = torch.cat([v, torch.zeros_like(v[:, :1])], 1)[..., None].expand(1, 3, 12, 10, depth)
    expected = VelocityField(v, flat).displacement.displacement_mm
    actual = VelocityField(stacked, solid).displacement.displacement_mm
    torch.testing.assert_close(actual[0, :2], expected[0, ..., None].expand(2, 12, 10, depth))
    assert float(actual[0, 2].abs().max()) == 0


# -- composition, points, borders -----------------------------------------------------------------


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("batch", [1, 2])
def test_compose_equals_the_chain_on_the_voxels(d: int, batch: int) -> None:
    grid = oblique(d)
    first = random(batch, d, *grid.shape, scale=1.5)
    second = random(batch, d, *grid.shape, seed=1, scale=1.5)
    x = grid.points_mm().expand(batch, *grid.shape, d)
    both = Chain((DisplacementField(first, grid), DisplacementField(second, grid)))
    expected = (both(x) - x).movedim(-1, 1)
    torch.testing.assert_close(compose(first, second, grid), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", DIMS)
def test_a_field_is_zero_beyond_its_grid(d: int) -> None:
    grid = oblique(d)
    field = DisplacementField(torch.ones(1, d, *grid.shape).double(), grid)
    for axis, n in enumerate(grid.shape):
        index = torch.full((4, d), 1.0).double()
        index[:, axis] = torch.tensor([-0.51, -0.49, n - 0.51, n - 0.49])
        x = apply_matrix(grid.world_from_index, index)
        moved = (field(x) - x)[:, 0]
        torch.testing.assert_close(moved, torch.tensor([0, 1, 1, 0]).double())


@pytest.mark.parametrize("d", DIMS)
def test_a_batch_of_fields_equals_a_loop(d: int) -> None:
    grid = oblique(d)
    fields = random(3, d, *grid.shape)
    x = between(grid, 24).reshape(3, 4, 2, d)
    for kind in (DisplacementField, VelocityField):
        looped = torch.stack([kind(u[None], grid)(one) for u, one in zip(fields, x, strict=True)])
        torch.testing.assert_close(kind(fields, grid)(x), looped)
        alike = kind(fields[:1], grid)(x)
        torch.testing.assert_close(alike[0], looped[0])
        jacobian = kind(fields, grid).jacobian(x)
        torch.testing.assert_close(jacobian[1], kind(fields[1:2], grid).jacobian(x[1]))


def test_float64_points_keep_their_precision_through_a_float32_field() -> None:
    grid = make_grid((5, 5, 5), (1, 1, 1), origin_mm=(4000, -4000, 4000))
    field = DisplacementField(torch.zeros(1, 3, 5, 5, 5), grid)
    x = grid.centre_mm + uniform(-1, 1, 10, 3)
    assert torch.equal(field(x), x)


@pytest.mark.parametrize("d", DIMS)
def test_gradcheck_in_field_and_velocity(d: int) -> None:
    grid = oblique(d, (3, 4, 2)[:d])
    x = apply_matrix(grid.world_from_index, off_kinks(grid.shape, 3))
    values = random(1, d, *grid.shape, scale=0.3).requires_grad_()
    assert gradcheck(lambda u: DisplacementField(u, grid)(x), values)
    assert gradcheck(lambda v: VelocityField(v, grid, 2)(x), values)
    assert gradcheck(lambda v: VelocityField(v, grid, 2).inverse()(x), values)
    assert gradcheck(lambda u: compose(u, 0.7 * u, grid), values)


@pytest.mark.parametrize("kind", [DisplacementField, VelocityField])
def test_fields_of_a_wrong_shape_are_rejected(kind: type[DisplacementField]) -> None:
    grid = oblique(3)
    for shape in ((3, 7, 6, 5), (1, 2, 7, 6, 5), (1, 3, 5, 6, 7)):
        with pytest.raises(ValueError, match="a field on this grid"):
            kind(torch.zeros(shape), grid)


@pytest.mark.parametrize("d", DIMS)
def test_a_sampled_transform_is_exact_at_the_voxels(d: int) -> None:
    grid = oblique(d)
    affine = Affine(Affine.identity_parameters(d) + 0.1, grid.centre_mm)
    field = sampled(affine, grid, max_points=7)
    points = grid.points_mm()
    torch.testing.assert_close(field(points), affine(points), rtol=0, atol=1e-4)


def test_covering_adds_zeros_up_to_the_points() -> None:
    """The same transform everywhere, on a grid that holds the points."""
    grid = make_grid((8, 7, 6), (1.5, 1.0, 2.0), (10, 20, 30), (4, 5, 6), left_handed=True)
    field = DisplacementField(smooth_field(grid, 2.0), grid)
    points = grid.padded(7.0).points_mm().reshape(-1, 3)
    wide = covering(field, points)
    index = points @ wide.grid.index_from_world[:3, :3].T + wide.grid.index_from_world[:3, 3]
    assert bool((index > -1e-6).all())
    assert bool((index < torch.tensor(wide.grid.shape) - 1 + 1e-6).all())
    near = grid.padded(3.0).points_mm().reshape(-1, 3) + 0.4
    torch.testing.assert_close(wide(near), field(near), atol=1e-9, rtol=0)
    assert covering(wide, points) is wide


def test_covering_ends_a_field_that_does_not_vanish_with_zeros() -> None:
    grid = make_grid((5, 4), (1.0, 1.0))
    field = DisplacementField(torch.ones(1, 2, 5, 4), grid)
    wide = covering(field, grid.points_mm().reshape(-1, 2))
    assert wide.grid.shape == (7, 6)
    assert float(wide.displacement_mm.sum()) == 40
    points = grid.points_mm()
    torch.testing.assert_close(wide(points), field(points))
