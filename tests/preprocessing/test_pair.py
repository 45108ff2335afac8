"""Scaling, pyramid and masks of a pair as the estimators see it."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import SIMILARITIES, MetricName
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS, oblique, random, uniform
from tests.helpers.synthetic import Known, grid_about, known_pair, plain_grid, reoriented


def matrix_of(known: Known, transform: Affine) -> Tensor:
    """The moving grid's indices from the fixed grid's."""
    to_world, from_world = known.fixed_grid.world_from_index, known.moving_grid.index_from_world
    return from_world @ transform.matrix @ to_world


def test_scaled_does_not_depend_on_units() -> None:
    image = uniform(0, 1, 1, 1, 20, 20).float()
    for scale, offset in ((1700, -5000), (1700, 0), (0.01, 3)):  # in none of which it looks like CT
        assert torch.allclose(scaled(image), scaled(scale * image + offset), atol=1e-4)


def test_scaled_reaches_from_0_to_1_and_cuts_off_at_a_quarter_more() -> None:
    image = uniform(0, 1, 1, 1, 40, 40).float()
    image[0, 0, 0, :3] = 1e6  # a few hot pixels
    result = scaled(image)
    assert float(result.min()) == 0
    assert float(result.max()) == 1.25
    assert 0.45 < float(result.median()) < 0.55


@pytest.mark.parametrize("background", [0.0, 300.0, -1024.0])
def test_background_becomes_0_whatever_it_was(background: float) -> None:
    image = torch.full((1, 1, 30, 30), background)
    image[..., 10:20, 10:20] += uniform(50, 100, 10, 10).float()
    result = scaled(image)
    assert float(result[0, 0, 0, 0]) == 0
    assert 0.4 < float(result[..., 10:20, 10:20].mean()) < 1


def test_scaled_of_nearly_constant_images_is_finite_and_not_flat() -> None:
    for background, spot in ((0.0, 1.0), (5.0, -2.0)):
        image = torch.full((1, 1, 30, 30), background)
        image[0, 0, 4, 4] += spot
        result = scaled(image)
        assert bool(torch.isfinite(result).all())
        assert float(result.max() - result.min()) >= 1
    assert bool((scaled(torch.full((1, 1, 4, 4), 7.0)) == 0).all())


@pytest.mark.parametrize("ndim", DIMS)
def test_a_coarser_scan_keeps_the_physical_domain_and_is_made_once(ndim: int) -> None:
    grid = oblique(ndim, (24, 20, 12)[:ndim])
    scan = PreparedImage(random(1, 1, *grid.shape).float(), grid)
    coarse = scan.at(4.0)
    assert coarse is scan.at(4.0)
    assert scan.at(0.1) is scan
    assert torch.allclose(coarse.grid.centre_mm, grid.centre_mm)
    assert coarse.grid.size_mm == pytest.approx(grid.size_mm)
    assert all(s > 2.4 for s in coarse.grid.spacing_mm)
    assert coarse.image.shape[2:] == coarse.grid.shape


@pytest.mark.parametrize("ndim", DIMS)
def test_what_a_mask_leaves_out_does_not_leak_into_coarser_scans(ndim: int) -> None:
    grid = plain_grid(ndim, 24)
    clean = uniform(0, 1, 1, 1, *grid.shape).float()
    mask = torch.ones_like(clean)
    mask[:, :, :9] = 0
    spoilt = torch.where(mask > 0, clean, 1.25)
    a, b = (PreparedImage(image, grid, mask).at(4.0) for image in (clean, spoilt))
    assert a.mask is not None
    counts = (a.mask > 1e-3).expand_as(a.image)
    assert torch.allclose(a.image[counts], b.image[counts], atol=1e-5)
    assert float(b.image[counts].max()) < 0.9  # a mean of numbers from 0 to 1, nothing of 1.25


def test_levels_are_multiples_of_the_finest_spacing_that_both_have() -> None:
    pair = known_pair(
        Affine.identity(3),
        grid_about(torch.zeros(3), [60] * 3, [1, 1, 3]),
        grid_about(torch.zeros(3), [60] * 3, [1.5] * 3),
    ).pair
    assert pair.finest_mm == pytest.approx(1.5)
    assert pair.level_spacings_mm((8, 4, 2, 1)) == pytest.approx([6, 3, 1.5])


def test_a_tiny_image_is_not_coarsened_to_nothing() -> None:
    pair = known_pair(Affine.identity(3), plain_grid(3, 36, 4), plain_grid(3, 36, 4)).pair
    for factors in ((8, 4), (8, 4, 2)):
        spacings = pair.level_spacings_mm(factors)
        assert min(pair.fixed.at(spacings[-1]).grid.shape) >= 8


def test_a_few_thick_slices_do_not_stop_the_pyramid() -> None:
    slab = grid_about(torch.zeros(3), [64, 64, 12], [1, 1, 3])
    pair = known_pair(Affine.identity(3), slab, plain_grid(3, 64)).pair
    assert pair.level_spacings_mm((8, 4, 2)) == pytest.approx([8, 4, 2])
    assert min(pair.fixed.at(8).grid.shape) >= 1


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("metric", SIMILARITIES)
def test_the_truth_is_less_unlike_than_a_shift(ndim: int, metric: MetricName) -> None:
    truth = Affine.identity(ndim)
    known = known_pair(truth, plain_grid(ndim, 30), plain_grid(ndim, 32, 0.8))
    loss_of = ImageLoss(known.pair.fixed, known.pair.moving, metric)
    losses = []
    for shift_mm in (0.0, 0.5, 1.0):
        off = Affine.from_matrix(torch.eye(ndim + 1).double())
        parameters = off.parameters.clone()
        parameters[-1] += shift_mm
        matrix = matrix_of(known, dataclasses.replace(off, parameters=parameters))
        losses.append(float(loss_of(matrix)))
    assert losses[0] < losses[1] < losses[2]


def test_voxels_outside_masks_do_not_count() -> None:
    grid = Grid.of_spacing((12, 12))
    clean, other = (uniform(0, 1, 1, 1, 12, 12, seed=s).float() for s in (0, 1))
    mask = torch.ones_like(clean)
    mask[:, :, 7:] = 0
    spoilt = torch.where(mask > 0, clean, 1.25)
    matrix = torch.eye(3, dtype=torch.float64)
    for metric in SIMILARITIES:
        plain = ImageLoss(PreparedImage(clean, grid, mask), PreparedImage(other, grid), metric)(
            matrix
        )
        fixed = ImageLoss(PreparedImage(spoilt, grid, mask), PreparedImage(other, grid), metric)(
            matrix
        )
        moving = ImageLoss(PreparedImage(other, grid), PreparedImage(spoilt, grid, mask), metric)(
            matrix
        )
        back = ImageLoss(PreparedImage(other, grid), PreparedImage(clean, grid, mask), metric)(
            matrix
        )
        assert float(fixed) == pytest.approx(float(plain), abs=1e-5)
        assert float(moving) == pytest.approx(float(back), abs=1e-5)
        without = ImageLoss(PreparedImage(spoilt, grid), PreparedImage(other, grid), metric)(matrix)
        assert float(without) != pytest.approx(float(plain), abs=1e-3)


def test_voxels_beyond_the_moving_image_do_not_count() -> None:
    grid = Grid.of_spacing((16, 16))
    image = uniform(0, 1, 1, 1, 16, 16).float()
    half = grid.cropped((0, 0), (8, 16))
    pair = Pair(PreparedImage(image, grid), PreparedImage(image[:, :, :8].contiguous(), half))
    loss = ImageLoss(pair.fixed, pair.moving, "mse")(torch.eye(3, dtype=torch.float64))
    assert float(loss) == pytest.approx(0, abs=1e-9)


def waves(grid: Grid, seed: int) -> Tensor:
    """An image ``(1, 1, *shape)`` of a few smooth waves between 0 and 1, float64."""
    directions = random(grid.ndim, 4, seed=seed, scale=0.7)
    phases = random(4, seed=seed + 1, scale=3)
    return (0.5 + torch.sin(grid.points_index() @ directions + phases).mean(dim=-1) / 2)[None, None]


def tilted(ndim: int, shift: float) -> Tensor:
    """A matrix near the identity, in general position: no voxel is read at a whole index."""
    matrix = torch.eye(ndim + 1, dtype=torch.float64)
    matrix[:-1] += random(ndim, ndim + 1, seed=5, scale=0.03)
    matrix[:-1, -1] += shift
    return matrix


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("metric", SIMILARITIES)
@pytest.mark.parametrize("masks", [(), ("fixed",), ("moving",), ("fixed", "moving")])
@pytest.mark.parametrize("shift", [1.4, -1.6], ids=["inside", "beyond"])
def test_the_slope_by_the_matrix_is_that_of_central_differences(
    ndim: int, metric: MetricName, masks: tuple[str, ...], shift: float
) -> None:
    shapes = {"fixed": (9, 8, 7)[:ndim], "moving": (13, 12, 11)[:ndim]}
    scans = {}
    for seed, (role, shape) in enumerate(shapes.items()):
        grid = Grid.of_spacing(shape)
        mask = waves(grid, 20 + seed) if role in masks else None
        scans[role] = PreparedImage(waves(grid, 10 * seed), grid, mask)
    start = tilted(ndim, shift).requires_grad_()

    loss_at = ImageLoss(scans["fixed"], scans["moving"], metric, 1.0)
    (slope,) = torch.autograd.grad(loss_at(start), start)
    h = 1e-6
    expected = torch.zeros_like(slope)
    for cell in itertools.product(range(ndim), range(ndim + 1)):
        off = torch.zeros_like(slope)
        off[cell] = h
        ends = [float(loss_at(start.detach() + sign * off)) for sign in (1, -1)]
        expected[cell] = (ends[0] - ends[1]) / (2 * h)
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("ndim", DIMS)
def test_descriptors_do_not_depend_on_how_the_moving_image_is_stored(ndim: int) -> None:
    """They know directions, so they are found along the fixed image's axes."""
    known = known_pair(Affine.identity(ndim), plain_grid(ndim, 32), plain_grid(ndim, 36))
    values, grid = reoriented(known.moving, known.moving_grid, [*range(ndim)][::-1], [0])
    other = PreparedImage(scaled(values), grid)
    losses = []
    for moving in (known.pair.moving, other):
        index = moving.grid.index_from_world @ known.fixed_grid.world_from_index
        losses.append(float(ImageLoss(known.pair.fixed, moving, "mind")(index)))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4, abs=1e-7)
    assert losses[0] < 1e-3


@pytest.mark.parametrize("ndim", DIMS)
def test_what_a_mask_leaves_out_does_not_reach_descriptors_that_count(ndim: int) -> None:
    known = known_pair(Affine.identity(ndim), plain_grid(ndim, 32), plain_grid(ndim, 32))
    mask = torch.ones_like(known.fixed)
    mask[..., :9] = 0
    spoilt = known.pair.moving.image.clone()
    spoilt[..., :9] = 7 * torch.rand(spoilt[..., :9].shape)
    fixed, matrix = known.pair.fixed, torch.eye(ndim + 1).double()
    values = [
        float(ImageLoss(fixed, PreparedImage(image, known.moving_grid, own), "mind")(matrix))
        for image, own in (
            (known.pair.moving.image, mask),
            (spoilt, mask),
            (spoilt, None),
        )
    ]
    assert values[1] == pytest.approx(values[0], abs=1e-4)
    assert values[2] > 1e-2
