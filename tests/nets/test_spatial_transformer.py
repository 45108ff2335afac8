"""Spatial transformers of one image and of several, and their compositions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stn3d.grid import Grid
from stn3d.losses import identity_deviation, inverse_consistency
from stn3d.nets import (
    HEADS,
    CanonicalisingWrapper,
    ComposedTransformers,
    HeadKind,
    Localisation,
    ParallelTransformers,
    ParameterHead,
    SpatialTransformer,
    cnn_encoder,
    voxel_points,
    warp_tensor,
)
from stn3d.nets.heads import MATRIX_KINDS, ParameterKind
from stn3d.sampler import sample
from stn3d.transforms import Affine, Linear
from tests.helpers.networks import (
    SHAPES,
    image_of,
    randomised,
    transformer,
)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("head", HEADS)
def test_a_transformer_is_initialised_to_the_identity_and_learns(head: HeadKind, d: int) -> None:
    network, image = transformer(head, d), image_of(d)
    assert torch.equal(network(image), image)
    randomised(network)(image).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    points = network.transform(image)(voxel_points(image)).detach()
    assert points.shape == (2, *SHAPES[d], d)
    assert float((points - voxel_points(image)).abs().mean()) > 0.01


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", [k for k in MATRIX_KINDS if k != "projective"])
def test_matrix_and_point_warps_agree(kind: ParameterKind, d: int) -> None:
    """`warp_tensor` has a fast path for matrices; its result must be that of warped points."""
    network, image = randomised(transformer(kind, d, 3)), image_of(d, 3, 3)
    transform = network.transform(image)
    assert isinstance(transform, Linear)
    by_points = sample(image, transform(voxel_points(image)))
    torch.testing.assert_close(network(image), by_points, rtol=0, atol=1e-4)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("head", ["affine", "projective", "velocity"])
def test_an_output_of_another_shape_covers_the_same_domain(head: HeadKind, d: int) -> None:
    shape = tuple(2 * n for n in SHAPES[d])
    image = image_of(d)
    large = transformer(head, d, shape=shape)(image)
    assert large.shape == (2, 1, *shape)
    for axis in range(d):  # two fine voxels are symmetric about a coarse one
        large = (large.unflatten(2 + axis, (-1, 2))).mean(3 + axis)
    inner = (..., *[slice(1, -1)] * d)
    assert float((large - image)[inner].detach().abs().mean()) < 0.2
    flat = torch.ones_like(image)
    assert torch.equal(transformer(head, d, shape=shape)(flat), torch.ones(2, 1, *shape))


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("head", ["affine", "projective", "velocity"])
def test_a_crop_fraction_initialises_to_a_centre_crop(head: HeadKind, d: int) -> None:
    image, shape = image_of(d), tuple(n // 2 for n in SHAPES[d])
    network = transformer(head, d, shape=shape, crop_fraction=0.5)
    middle = Grid.of_spacing(SHAPES[d]).with_shape(shape).zoomed(0.5)
    points = middle.points_mm(dtype=torch.float32)[None].expand(2, *shape, d)
    seen = sample(image, points)
    torch.testing.assert_close(network(image), seen, rtol=0, atol=1e-5)
    torch.testing.assert_close(ComposedTransformers([network], [2])(image), seen, rtol=0, atol=1e-5)
    found = randomised(network).transform(image)
    assert float((network(image) - seen).detach().abs().max()) > 0.1
    torch.testing.assert_close(network(image), sample(image, found(points)), rtol=0, atol=1e-4)


def test_a_downsampled_localisation_gives_full_resolution_voxels() -> None:
    torch.manual_seed(0)
    encoder = cnn_encoder((14, 14), 1, filters=(3, 3), kernel_sizes=(3, 3), units=6)
    coarse = SpatialTransformer(Localisation(encoder, ParameterHead("affine", 2, 6, 0, 0)), 2)
    with torch.no_grad():
        coarse.localisation.head.layers[-1].bias[-2:] = torch.tensor([1.0, -1.0])
    image = torch.rand(2, 1, 28, 28)
    shift = coarse.transform(image)(voxel_points(image)) - voxel_points(image)
    torch.testing.assert_close(shift[..., 0], torch.full_like(shift[..., 0], 2.8))
    torch.testing.assert_close(shift[..., 1], torch.full_like(shift[..., 1], -2.8))


def test_the_localisation_input_may_be_another_image() -> None:
    network = randomised(transformer("rigid", 2, 3))
    image, seen = image_of(2, channels=2), image_of(2, channels=3)
    expected = warp_tensor(image, network.transform(seen))
    assert torch.equal(network(image, seen), expected)


def test_composed_transformers_interpolate_the_image_once() -> None:
    series = randomised(
        ComposedTransformers([transformer("affine"), transformer("rigid")], [2, 1]), 0.05
    )
    image = image_of(2)
    found = series.transforms(image)
    assert len(found) == 3
    assert isinstance(found[-1], Affine)  # matrices are multiplied: no interpolation in between
    second = series.transformers[0].transform(warp_tensor(image, found[0]))
    points = voxel_points(image)
    torch.testing.assert_close(found[1](points), found[0](second(points)), rtol=0, atol=1e-4)
    assert torch.equal(series(image), warp_tensor(image, found[-1]))
    beside = ComposedTransformers([transformer("affine", channels=2)])
    assert torch.equal(beside(image, image.flip(-1)), image)


def test_a_shift_outside_and_back_loses_nothing_when_composed() -> None:
    """Applying the transformers one after another would lose the border."""

    class Shift(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by

        def forward(self, images: Tensor) -> Affine:
            matrix = torch.eye(3).double()
            matrix[0, 2] = self.by
            return Affine.from_matrix(matrix)

    there, back = SpatialTransformer(Shift(9.0)), SpatialTransformer(Shift(-9.0))
    image = image_of(2)
    assert torch.equal(ComposedTransformers([there, back])(image), image)
    lost = nn.Sequential(there, back)(image)
    assert not lost[:, :, :9].any()
    assert torch.equal(lost[:, :, 9:], image[:, :, 9:])


def test_parallel_transformers_concatenate_channels() -> None:
    network = randomised(
        ParallelTransformers([transformer("affine", channels=2), transformer("rigid", channels=2)])
    )
    image = image_of(2, channels=2)
    both = network(image)
    assert both.shape == (2, 4, *SHAPES[2])
    assert torch.equal(both[:, :2], network.transformers[0](image))
    assert torch.equal(both[:, 2:], network.transformers[1](image))


@pytest.mark.parametrize("head", ["similarity", "projective", "thin_plate_spline", "velocity"])
def test_the_output_of_a_canonicalising_wrapper_is_in_the_image_frame(head: HeadKind) -> None:
    network = CanonicalisingWrapper(randomised(transformer(head), 0.03), nn.Identity())
    axes = torch.meshgrid(*[torch.linspace(0, 3, n) for n in SHAPES[2]], indexing="ij")
    image = (axes[0].sin() + axes[1].cos())[None, None]
    again = network(image)
    assert not torch.equal(network.transformer(image), image)
    inner = (..., slice(6, -6), slice(6, -6))
    assert float((again - image)[inner].detach().abs().max()) < 0.05
    again.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_inverse_consistency_can_be_trained() -> None:
    """Two networks, one for each direction, trained to be inverse to each other."""
    torch.manual_seed(0)
    image, turned = image_of(2), image_of(2).flip(-1)
    pair, swapped = torch.cat([image, turned], 1), torch.cat([turned, image], 1)
    there, back = (
        randomised(transformer("affine", channels=2)),
        randomised(transformer("rigid", channels=2)),
    )
    points = voxel_points(image)
    both = [*there.parameters(), *back.parameters()]
    optimiser = torch.optim.Adam(both, lr=5e-3)
    losses = []
    for _ in range(40):
        to, fro = there.transform(pair), back.transform(swapped)
        cycle = inverse_consistency(to, fro, points)
        loss = cycle + 1e-3 * identity_deviation(to, points)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(cycle.detach()))
    assert losses[-1] < 0.1 * losses[0]


def test_alignment_to_a_support_image_is_learned() -> None:
    """Affine alignment to a support image is learned without labels."""
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")

    def blob(row: float, column: float) -> Tensor:
        return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18)[None, None]

    support, image = blob(11.5, 11.5), blob(14.0, 9.5)
    network = transformer("affine", channels=2)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    before = float((image - support).square().mean())
    for _ in range(60):
        loss = (network(image, torch.cat([support, image], 1)) - support).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1 * before
