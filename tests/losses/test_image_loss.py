"""The loss of a matrix between two images: masks, gradients, descriptors."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from stn3d.choices import MetricName
from stn3d.grid import Grid
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Affine
from tests.helpers.geometry_cases import DIMS, random, uniform
from tests.helpers.synthetic import Known, known_pair, plain_grid, reoriented

# A metric that depends on axes prepares the image again for each matrix.
FIXED_AXES = [name for name, metric in METRICS.items() if not metric.depends_on_axes]


def matrix_of(known: Known, transform: Affine) -> Tensor:
    """The moving grid's indices from the fixed grid's."""
    to_world, from_world = known.fixed_grid.world_from_index, known.moving_grid.index_from_world
    return from_world @ transform.matrix @ to_world


@pytest.mark.parametrize("ndim", DIMS)
@pytest.mark.parametrize("metric", FIXED_AXES)
def test_the_truth_is_less_unlike_than_a_shift(ndim: int, metric: MetricName) -> None:
    truth = Affine.identity(ndim)
    known = known_pair(truth, plain_grid(ndim, 30), plain_grid(ndim, 32, 0.8))
    loss_of = ImageLoss(known.pair.fixed, known.pair.moving, METRICS[metric])
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
    images = [PreparedImage(*one) for one in ((clean, grid, mask), (spoilt, grid, mask))]
    moving, unmasked = PreparedImage(other, grid), PreparedImage(spoilt, grid)
    for metric in (METRICS[name] for name in FIXED_AXES):
        plain, fixed, without = (
            float(ImageLoss(image, moving, metric)(matrix)) for image in (*images, unmasked)
        )
        back, swapped = (float(ImageLoss(moving, image, metric)(matrix)) for image in images)
        assert fixed == pytest.approx(plain, abs=1e-5)
        assert swapped == pytest.approx(back, abs=1e-5)
        assert without != pytest.approx(plain, abs=1e-3)


def test_voxels_beyond_the_moving_image_do_not_count() -> None:
    grid = Grid.of_spacing((16, 16))
    image = uniform(0, 1, 1, 1, 16, 16).float()
    half = grid.cropped((0, 0), (8, 16))
    pair = Pair(PreparedImage(image, grid), PreparedImage(image[:, :, :8].contiguous(), half))
    loss = ImageLoss(pair.fixed, pair.moving, METRICS["mse"])(torch.eye(3, dtype=torch.float64))
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
@pytest.mark.parametrize("metric", FIXED_AXES)
@pytest.mark.parametrize("masks", [(), ("fixed",), ("moving",), ("fixed", "moving")])
@pytest.mark.parametrize("shift", [1.4, -1.6], ids=["inside", "beyond"])
def test_the_slope_by_the_matrix_is_that_of_central_differences(
    ndim: int, metric: MetricName, masks: tuple[str, ...], shift: float
) -> None:
    shapes = {"fixed": (9, 8, 7)[:ndim], "moving": (13, 12, 11)[:ndim]}
    images = {}
    for seed, (role, shape) in enumerate(shapes.items()):
        grid = Grid.of_spacing(shape)
        mask = waves(grid, 20 + seed) if role in masks else None
        images[role] = PreparedImage(waves(grid, 10 * seed), grid, mask)
    start = tilted(ndim, shift).requires_grad_()

    loss_at = ImageLoss(images["fixed"], images["moving"], METRICS[metric], 1.0)
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
        losses.append(float(ImageLoss(known.pair.fixed, moving, METRICS["mind"])(index)))
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
    mind = METRICS["mind"]
    values = [
        float(ImageLoss(fixed, PreparedImage(image, known.moving_grid, own), mind)(matrix))
        for image, own in (
            (known.pair.moving.image, mask),
            (spoilt, mask),
            (spoilt, None),
        )
    ]
    assert values[1] == pytest.approx(values[0], abs=1e-4)
    assert values[2] > 1e-2
