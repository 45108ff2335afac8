"""Warping of images and labels, field-of-view overlap, Jacobian determinants."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from stn3d.grid import Grid, apply_matrix
from stn3d.sampler import Interpolation, sample
from stn3d.transforms import (
    Affine,
    DisplacementField,
    Projective,
    Rigid,
    Transform,
    VelocityField,
    chain,
)
from stn3d.transforms.dense import in_voxels
from stn3d.warp import (
    fov_overlap_fraction,
    jacobian_determinant,
    resample_image,
    warp_batch,
    warp_image,
    warp_labels,
)
from tests.helpers.geometry_cases import DIMS, QUICK, make_grid, oblique, random, smooth_field

ALL: tuple[Interpolation, ...] = ("linear", "nearest", "cubic")


def facing(d: int) -> tuple[Grid, Grid]:
    """A moving and a fixed grid of different geometry and almost the same centre."""
    moving = oblique(d)
    fixed = make_grid((6, 8, 7)[:d], (1.1, 1.3, 2), (15, 10, -15))
    matrix = fixed.world_from_index.clone()
    matrix[:-1, -1] += moving.centre_mm - fixed.centre_mm + 0.3
    return moving, Grid(fixed.shape, matrix)


GRIDS = {d: facing(d) for d in DIMS}


def affine(d: int, seed: int = 0, scale: float = 0.08) -> Affine:
    parameters = Affine.identity_parameters(d) + random(d * (d + 1), seed=seed, scale=scale)
    return Affine(parameters, oblique(d).centre_mm)


def composed(d: int) -> tuple[Transform, DisplacementField, Affine]:
    fixed = GRIDS[d][1]
    field = DisplacementField(smooth_field(fixed.padded(2), 1.0), fixed.padded(2))
    linear = affine(d)
    return chain(field, linear), field, linear


# -- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("interpolation", ALL)
def test_a_chain_interpolates_the_image_once(d: int, interpolation: Interpolation) -> None:
    moving, fixed = GRIDS[d]
    image = random(1, 2, *moving.shape)
    both, field, linear = composed(d)
    moved = warp_image(image, moving, both, fixed, interpolation)
    points = linear(field(fixed.points_mm()))
    index = apply_matrix(torch.linalg.inv(moving.world_from_index), points)
    expected = sample(image, index[None], interpolation)
    assert moved.shape == (1, 2, *fixed.shape)
    assert float((moved != 0).float().mean()) > 0.2
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("margin", [-1, 2, None])
def test_parts_in_any_order(d: int, margin: int | None) -> None:
    """Also with a field on the voxels of the fixed grid."""
    moving, fixed = GRIDS[d]
    own = fixed.with_shape([n + 1 for n in fixed.shape])
    if margin is not None:
        own = fixed.cropped([-margin] * d, [n + margin for n in fixed.shape])
    field = DisplacementField(smooth_field(own, 1.0), own)
    velocity, one, two = VelocityField(smooth_field(own, 1.0), own), affine(d), affine(d, seed=1)
    image = random(1, 2, *moving.shape)
    orders = (field, one), (one, field), (one, field, two), (velocity, two), (field, velocity)
    for parts in (*orders, (field,), (one,)):
        transform = chain(*parts)
        index = apply_matrix(moving.index_from_world, transform(fixed.points_mm()))
        moved = warp_image(image, moving, transform, fixed, outside_value=-3.0)
        torch.testing.assert_close(moved, sample(image, index[None], outside_value=-3.0))
        assert 0 < int((moved == -3).sum()) < moved.numel()


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("interpolation", ALL)
@pytest.mark.parametrize("max_voxels", [1, 100])
def test_slabs_equal_a_single_pass(
    d: int, interpolation: Interpolation, max_voxels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving, fixed = GRIDS[d]
    image, transform = random(1, 2, *moving.shape), composed(d)[0]
    labels = (image[:, :1] * 3).round().int()

    def everything() -> list[Tensor]:
        return [
            warp_image(image, moving, transform, fixed, interpolation),
            warp_labels(labels, moving, transform, fixed, smooth=True),
            jacobian_determinant(transform, fixed),
            torch.tensor(fov_overlap_fraction(moving, transform, fixed)),
        ]

    whole = everything()
    slabs = Grid.slabs
    monkeypatch.setattr(Grid, "slabs", lambda grid: slabs(grid, max_voxels))
    assert len(fixed.slabs()) > 1 or max_voxels > 1
    for streamed, once in zip(everything(), whole, strict=True):
        torch.testing.assert_close(streamed, once, rtol=0, atol=1e-6)


@pytest.mark.parametrize("d", DIMS)
def test_identity_on_the_same_grid_changes_nothing(d: int) -> None:
    grid = oblique(d)
    image = random(1, 1, *grid.shape).float()
    for interpolation in ALL:
        moved = warp_image(image, grid, Rigid.identity(d), grid, interpolation)
        torch.testing.assert_close(moved, image, rtol=0, atol=2e-5)


def test_a_translation_moves_the_image_in_the_opposite_direction() -> None:
    grid = make_grid((9, 9, 9), (2, 1, 1), left_handed=True)  # x decreases by 2 mm per index
    image = torch.zeros(1, 1, 9, 9, 9)
    image[0, 0, 4, 4, 4] = 1
    shift = Rigid(torch.tensor([0, 0, 0, 4.0, -3, 0]), torch.zeros(3))
    moved = warp_image(image, grid, shift, grid)
    # fixed + (4, -3, 0) mm = the moving bright voxel at (-8, 4, 4) mm, so fixed is (-12, 7, 4) mm
    assert moved[0, 0, 6, 7, 4] == 1
    assert moved.sum() == 1


@pytest.mark.parametrize("interpolation", ALL)
def test_outside_value_beyond_the_image(interpolation: Interpolation) -> None:
    grid = make_grid((4, 4, 4), (1, 1, 1))
    wide = grid.padded(2)
    moved = warp_image(
        torch.ones(1, 1, 4, 4, 4), grid, Rigid.identity(3), wide, interpolation, -1000.0
    )
    expected = torch.full((1, 1, 8, 8, 8), -1000.0)
    expected[..., 2:6, 2:6, 2:6] = 1
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_gradcheck_in_image_field_and_matrix(d: int, interpolation: Interpolation) -> None:
    moving, fixed = oblique(d, (3, 4, 2)[:d]), oblique(d, (3, 4, 2)[:d]).with_shape((2, 3, 2)[:d])
    image = random(1, 1, *moving.shape).requires_grad_()
    u = random(1, d, *fixed.shape, seed=1, scale=0.2).requires_grad_()
    parameters = (Affine.identity_parameters(d) + random(d * (d + 1), scale=0.02)).requires_grad_()

    def moved(i: Tensor, w: Tensor, p: Tensor) -> Tensor:
        transform = chain(DisplacementField(w, fixed), Affine(p, moving.centre_mm))
        return warp_image(i, moving, transform, fixed, interpolation)

    assert gradcheck(moved, (image, u, parameters))


@pytest.mark.parametrize("interpolation", ALL)
def test_in_plane_3d_equals_2d(interpolation: Interpolation) -> None:
    moving, fixed = GRIDS[2]
    turn = torch.tensor([0.2]).double()
    shift, centre = torch.tensor([0.7, -1.1]).double(), moving.centre_mm
    zero = torch.zeros(1).double()
    flat = Rigid(torch.cat([turn, shift]), centre)
    solid = Rigid(torch.cat([zero, zero, turn, shift, zero]), torch.cat([centre, zero]))

    def deep(grid: Grid) -> Grid:
        matrix = torch.eye(4).double()
        matrix[:2, :2], matrix[:2, 3] = grid.world_from_index[:2, :2], grid.world_from_index[:2, 2]
        return Grid((*grid.shape, 3), matrix)

    image = random(1, 1, *moving.shape)
    stacked = image[..., None].expand(*image.shape, 3)
    expected = warp_image(image, moving, flat, fixed, interpolation)
    actual = warp_image(stacked, deep(moving), solid, deep(fixed), interpolation)
    torch.testing.assert_close(actual, expected[..., None].expand_as(actual))


@pytest.mark.parametrize("shape", [(1, 5, 4), (5, 1, 1), (1, 1, 1), (1, 6)])
@pytest.mark.parametrize("interpolation", ALL)
def test_axes_of_one_voxel_have_their_thickness(
    shape: tuple[int, ...], interpolation: Interpolation
) -> None:
    moving = oblique(len(shape), shape)
    image = 3 + random(1, 1, *shape)
    fine = moving.with_shape([3 if n == 1 else n for n in shape])
    moved = warp_image(image, moving, Rigid.identity(len(shape)), fine, interpolation)
    torch.testing.assert_close(moved, image.expand_as(moved))


@pytest.mark.parametrize("d", DIMS)
def test_resample_image_keeps_a_constant_a_mean_and_a_ramp(d: int) -> None:
    grid = oblique(d, (24, 20, 16)[:d])
    target = grid.coarsened(3.0)
    constant = resample_image(torch.full((1, 1, *grid.shape), 5.0), grid, target)
    torch.testing.assert_close(constant, torch.full((1, 1, *target.shape), 5.0))
    ramp = resample_image(grid.points_mm()[..., 0][None, None].float(), grid, target)
    expected = target.points_mm()[..., 0].float()
    middle = tuple(slice(n // 3, n - n // 3) for n in target.shape)
    torch.testing.assert_close(ramp[0, 0][middle], expected[middle], rtol=0, atol=0.05)


# -- labels ---------------------------------------------------------------------------------------


@QUICK
@given(
    st.integers(0, 10**6),
    st.sampled_from(DIMS),
    st.sampled_from([(3, 7, 200), (0, 1, 4), (-2, 0, 5)]),
    st.booleans(),
)
def test_no_new_labels_appear(seed: int, d: int, known: tuple[int, ...], smooth: bool) -> None:
    moving, fixed = GRIDS[d]
    which = (random(1, 1, *moving.shape, seed=seed).abs() * 2).long().clamp(max=len(known) - 1)
    labels = torch.tensor(known, dtype=torch.int32)[which]
    moved = warp_labels(labels, moving, affine(d, seed), fixed, smooth)
    assert moved.dtype == torch.int32
    assert set(moved.unique().tolist()) <= {0, *known}


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("only", [4, -4])
def test_beyond_the_label_map_is_background(smooth: bool, only: int) -> None:
    """Also if the map has no voxel of label 0."""
    grid = make_grid((3, 3, 3), (1, 1, 1))
    labels = torch.full((1, 1, 3, 3, 3), only, dtype=torch.int16)
    moved = warp_labels(labels, grid, Rigid.identity(3), grid.padded(1), smooth)
    assert int((moved == only).sum()) == 27
    assert int((moved == 0).sum()) == 125 - 27


@pytest.mark.parametrize("d", DIMS)
def test_smooth_differs_from_nearest_only_near_boundaries(d: int) -> None:
    n = 14
    grid = make_grid((n,) * d, (1, 1, 1))
    offset = grid.points_mm() - grid.centre_mm
    labels = ((offset.norm(dim=-1) < 4).int() + 2 * (offset[..., 0] > 2).int())[None, None]
    transform = Rigid(
        torch.tensor([0.3, 0.4, -0.3] if d == 2 else [0.1, 0.2, 0.3, 0.4, -0.3, 0.2]).double(),
        grid.centre_mm,
    )
    nearest = warp_labels(labels, grid, transform, grid)
    smooth = warp_labels(labels, grid, transform, grid, smooth=True)
    differs = (nearest != smooth)[0, 0]
    assert 0 < int(differs.sum()) < 0.1 * grid.num_voxels
    index = transform(grid.points_mm())[differs]
    for point in index:  # the cell around such a point has several labels
        low = point.floor().long().clamp(0, n - 2)
        cell = labels[0, 0][tuple(slice(int(a), int(a) + 2) for a in low)]
        assert len(cell.unique()) > 1


def test_a_tie_goes_to_the_smaller_label() -> None:
    grid = make_grid((4, 2), (1, 1))
    between = make_grid((3, 2), (1, 1), origin_mm=(0.5, 0))
    for labels, expected in (([5, 2, 9, 0], [2, 2, 0]), ([1, 1, 8, 3], [1, 1, 3])):
        image = torch.tensor(labels)[None, None, :, None].expand(1, 1, 4, 2)
        moved = warp_labels(image, grid, Rigid.identity(2), between, smooth=True)
        assert moved[0, 0, :, 0].tolist() == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_large_labels_stay_exact(dtype: torch.dtype) -> None:
    top = torch.iinfo(dtype).max
    grid = make_grid((4, 4), (1, 1))
    labels = torch.tensor([0, top, top, top - 1])[:, None].expand(4, 4).to(dtype)[None, None]
    for smooth in (False, True):
        moved = warp_labels(labels, grid, Rigid.identity(2), grid, smooth)
        assert moved.dtype == dtype
        assert torch.equal(moved, labels)


# -- overlap and Jacobian -------------------------------------------------------------------------


def test_overlap_is_the_fraction_of_fixed_voxels() -> None:
    grid = make_grid((10, 4, 5), (2, 1, 1))
    for shift, expected in ((0, 1), (4, 0.8), (-10, 0.5), (18, 0.1), (19, 0), (40, 0)):
        transform = Rigid(torch.tensor([0, 0, 0, shift, 0, 0]).double(), torch.zeros(3))
        assert fov_overlap_fraction(grid, transform, grid) == pytest.approx(expected)
    assert fov_overlap_fraction(grid, Rigid.identity(3), grid.padded(2)) == pytest.approx(
        200 / (12 * 8 * 9)
    )


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("origin", [0.0, 3000.0])
def test_determinant_of_an_affine(d: int, origin: float) -> None:
    """Also for small voxels, far from the world origin, and for reflections."""
    grid = make_grid((5, 4, 3), (0.1, 0.3, 0.2), (20, 30, 40), (origin,) * 3, left_handed=True)
    grid = grid if d == 3 else make_grid((5, 4), (0.1, 0.3), (20,), (origin,) * 2)
    for sign in (1, -1):
        matrix = torch.eye(d).double() + random(d, d, scale=0.1)
        matrix[0] *= sign
        transform = Affine(torch.cat([matrix.flatten(), random(d)]), grid.centre_mm)
        determinant = jacobian_determinant(transform, grid)
        assert determinant.shape == grid.shape
        expected = torch.full(grid.shape, float(torch.linalg.det(matrix)))
        torch.testing.assert_close(determinant.float(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("d", DIMS)
def test_determinant_of_a_field_equals_central_differences(d: int) -> None:
    grid = oblique(d, (9, 8, 7)[:d])
    field = DisplacementField(smooth_field(grid, 1.5), grid)
    x = grid.points_mm()
    columns = []
    for axis in range(d):
        step = grid.world_from_index[:-1, axis]
        columns.append((field(x + step) - field(x - step)) / 2)
    by_hand = torch.linalg.det(torch.stack(columns, -1)) / torch.linalg.det(
        grid.world_from_index[:-1, :-1]
    )
    inner = (slice(1, -1),) * d
    actual = jacobian_determinant(field, grid)
    torch.testing.assert_close(actual[inner].double(), by_hand[inner], rtol=0, atol=1e-4)
    assert float(actual.max() - actual.min()) > 0.1


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("margin", [-1, 0, 2, None])
def test_determinant_is_the_same_on_the_fields_own_voxels_and_elsewhere(
    d: int, margin: int | None
) -> None:
    """A field on the grid's lattice is not interpolated; a final linear part is factored out."""
    grid = oblique(d, (9, 8, 7)[:d])
    own = grid.with_shape([n + 1 for n in grid.shape])
    if margin is not None:
        own = grid.cropped([-margin] * d, [n + margin for n in grid.shape])
    field = DisplacementField(random(1, d, *own.shape, scale=0.3).float(), own)
    transform = chain(field, Affine(0.1 * random(d * (d + 1), seed=1) + 1, grid.centre_mm))
    moves = transform(grid.points_mm())
    steps = [torch.gradient(moves, dim=axis)[0] for axis in range(d)]
    expected = torch.linalg.det(torch.stack(steps, -1))
    expected /= torch.linalg.det(grid.world_from_index[:-1, :-1])
    actual = jacobian_determinant(transform, grid)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5)


def test_determinant_detects_folding() -> None:
    grid = make_grid((16, 16, 8), (1, 1, 1), (10, 20, 30))
    v = smooth_field(grid, 3.0)
    assert float(jacobian_determinant(VelocityField(v, grid), grid).min()) > 0
    assert float(jacobian_determinant(DisplacementField(4 * v, grid), grid).min()) < 0


def test_determinant_along_an_axis_of_one_voxel_is_that_of_the_linear_part() -> None:
    grid = oblique(3, (6, 5, 1))
    rotation = Rigid(torch.tensor([0.4, 0.3, 0.0, 1.0, 0, 0]).double(), grid.centre_mm)
    determinants = jacobian_determinant(rotation, grid)
    torch.testing.assert_close(determinants, torch.ones(6, 5, 1))  # also out of the plane
    field = DisplacementField(random(1, 3, 6, 5, 1), grid)
    moves = in_voxels(field.displacement_mm, grid)[0, :2, ..., 0]
    by_first, by_second = (torch.gradient(moves, dim=(1, 2))[k] for k in (0, 1))
    expected = (1 + by_first[0]) * (1 + by_second[1]) - by_second[0] * by_first[1]
    found = jacobian_determinant(field.then(rotation), grid)[..., 0]
    torch.testing.assert_close(found, expected.float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("d", DIMS)
@pytest.mark.parametrize("which", ["affine", "projective", "field"])
def test_a_batch_equals_single_images(which: str, d: int) -> None:
    moving_grid, fixed_grid = oblique(d, (9, 8, 7)[:d]), oblique(d, (8, 9, 10)[:d])
    images = random(3, 2, *moving_grid.shape)
    matrices = torch.eye(d + 1).double().repeat(3, 1, 1)
    matrices[:, :d] += 0.1 * random(3, d, d + 1, seed=1)
    centre = moving_grid.centre_mm
    fields = torch.cat([smooth_field(moving_grid, 2.0, seed=s) for s in range(3)])

    def transform(which_one: slice) -> Transform:
        if which == "affine":
            return Affine.from_matrix(matrices[which_one], centre)
        if which == "projective":
            bent = matrices[which_one].clone()
            bent[:, d, 0] = 1e-3
            return Projective.from_matrix(bent, centre)
        return DisplacementField(fields[which_one], moving_grid)

    batch = warp_batch(images, moving_grid, transform(slice(0, 3)), fixed_grid)
    assert batch.shape == (3, 2, *fixed_grid.shape)
    for number, image in enumerate(images):
        points = fixed_grid.points_mm()[None]
        at = apply_matrix(
            moving_grid.index_from_world, transform(slice(number, number + 1))(points)
        )
        torch.testing.assert_close(batch[number], sample(image[None], at)[0], rtol=0, atol=1e-8)
    shared = warp_batch(images[:1], moving_grid, transform(slice(0, 3)), fixed_grid)
    torch.testing.assert_close(shared[0], batch[0], rtol=0, atol=1e-9)
    one = warp_batch(images, moving_grid, transform(slice(0, 1)), fixed_grid)
    torch.testing.assert_close(one[0], batch[0], rtol=0, atol=1e-9)
    assert one.shape == batch.shape
