"""Spatial transformers of one image and of several, and the systems that are made of them."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from stn3d.grid import Grid
from stn3d.losses import identity_deviation, inverse_consistency
from stn3d.nets import (
    HEADS,
    AlignedPyramid,
    EachStep,
    Head,
    Localisation,
    Parallel,
    ParameterHead,
    PyramidLocalisation,
    RecurrentLocalisation,
    RecurrentPoints,
    RecurrentTransformer,
    Returning,
    Series,
    SpatialSoftmax,
    SpatialTransformer,
    TwoImages,
    cnn,
    cnn_encoder,
    fcn,
    fcn_encoder,
    map_encoder,
    moved,
    voxels,
)
from stn3d.nets.classifiers import Looks, Turns
from stn3d.nets.heads import MATRIX_KINDS, ParameterKind
from stn3d.sampler import sample
from stn3d.transforms import Affine, Linear

SHAPES = {2: (21, 26), 3: (11, 13, 9)}


def image_of(d: int, batch: int = 2, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *SHAPES[d], generator=torch.Generator().manual_seed(0))


def transformer(
    head: Head = "affine", d: int = 2, channels: int = 1, **options: Any
) -> SpatialTransformer:
    localisation = PyramidLocalisation(head, d, channels, channels=(4, 6), control_points=4)
    return SpatialTransformer(localisation, **options)


def shaken(network: nn.Module, amount: float = 0.1) -> Any:
    torch.manual_seed(1)
    for parameter in network.parameters():
        parameter.data += amount * torch.randn_like(parameter)
    return network


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("head", HEADS)
def test_a_transformer_of_one_image_is_the_identity_at_birth_and_learns(head: Head, d: int) -> None:
    network, image = transformer(head, d), image_of(d)
    assert torch.equal(network(image), image)
    shaken(network)(image).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    points = network.transform(image)(voxels(image)).detach()
    assert points.shape == (2, *SHAPES[d], d)
    assert float((points - voxels(image)).abs().mean()) > 0.01


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", get_args(ParameterKind))
def test_a_unit_of_a_parameter_moves_the_border_by_about_a_tenth(
    kind: ParameterKind, d: int
) -> None:
    torch.manual_seed(0)
    head = ParameterHead(kind, d, 5, hidden=0, pooled=0)
    image = image_of(d, 1)
    for at in range(min(head.family.count, 12)):
        with torch.no_grad():
            head.layers[-1].bias.zero_()
            head.layers[-1].bias[at] = 1.0
        network = SpatialTransformer(Localisation(nn.Flatten(), _Given(head)))
        gap = (network.transform(image)(voxels(image)) - voxels(image)).abs()
        most = float((gap.detach() / torch.tensor(SHAPES[d])).max())
        assert 0.02 < most < 0.45


class _Given(nn.Module):
    """A head that sees nothing."""

    def __init__(self, head: ParameterHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: list[Tensor], grid: Any) -> Any:
        return self.head([torch.zeros(len(features[-1]), 5)], grid)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("kind", [k for k in MATRIX_KINDS if k != "projective"])
def test_matrices_and_points_read_the_same(kind: ParameterKind, d: int) -> None:
    """`moved` takes a matrix whole where it can; by its points the result must not differ."""
    network, image = shaken(transformer(kind, d, 3)), image_of(d, 3, 3)
    transform = network.transform(image)
    assert isinstance(transform, Linear)
    by_points = sample(image, transform(voxels(image)))
    torch.testing.assert_close(network(image), by_points, rtol=0, atol=1e-4)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("head", ["affine", "projective", "velocity"])
def test_an_output_of_another_shape_shows_the_same_domain(head: Head, d: int) -> None:
    shape = tuple(2 * n for n in SHAPES[d])
    image = image_of(d)
    large = transformer(head, d, shape=shape)(image)
    assert large.shape == (2, 1, *shape)
    for axis in range(d):  # two fine voxels lie evenly about a coarse one
        large = (large.unflatten(2 + axis, (-1, 2))).mean(3 + axis)
    inner = (..., *[slice(1, -1)] * d)
    assert float((large - image)[inner].detach().abs().mean()) < 0.2
    flat = torch.ones_like(image)
    assert torch.equal(transformer(head, d, shape=shape)(flat), torch.ones(2, 1, *shape))


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("head", ["affine", "projective", "velocity"])
def test_a_transformer_may_be_born_zoomed_on_the_middle(head: Head, d: int) -> None:
    image, shape = image_of(d), tuple(n // 2 for n in SHAPES[d])
    network = transformer(head, d, shape=shape, share=0.5)
    middle = Grid.of_spacing(SHAPES[d]).with_shape(shape).zoomed(0.5)
    points = middle.points_mm(dtype=torch.float32)[None].expand(2, *shape, d)
    seen = sample(image, points)
    torch.testing.assert_close(network(image), seen, rtol=0, atol=1e-5)
    torch.testing.assert_close(Series([network], [2])(image), seen, rtol=0, atol=1e-5)
    found = shaken(network).transform(image)
    assert float((network(image) - seen).detach().abs().max()) > 0.1
    torch.testing.assert_close(network(image), sample(image, found(points)), rtol=0, atol=1e-4)


def test_a_localisation_sees_coarse_images_and_speaks_of_fine_voxels() -> None:
    torch.manual_seed(0)
    encoder = cnn_encoder((14, 14), 1, filters=(3, 3), widths=(3, 3), units=6)
    coarse = SpatialTransformer(Localisation(encoder, ParameterHead("affine", 2, 6, 0, 0)), 2)
    with torch.no_grad():
        coarse.localisation.head.layers[-1].bias[-2:] = torch.tensor([1.0, -1.0])
    image = torch.rand(2, 1, 28, 28)
    shift = coarse.transform(image)(voxels(image)) - voxels(image)
    torch.testing.assert_close(shift[..., 0], torch.full_like(shift[..., 0], 2.8))
    torch.testing.assert_close(shift[..., 1], torch.full_like(shift[..., 1], -2.8))


def test_a_transformer_may_look_at_another_image() -> None:
    network = shaken(transformer("rigid", 2, 3))
    image, seen = image_of(2, channels=2), image_of(2, channels=3)
    expected = moved(image, network.transform(seen))
    assert torch.equal(network(image, seen), expected)


def test_a_series_reads_the_image_once_through_all_that_was_found() -> None:
    series = shaken(Series([transformer("affine"), transformer("rigid")], [2, 1]), 0.05)
    image = image_of(2)
    found = series.transforms(image)
    assert len(found) == 3
    assert isinstance(found[-1], Affine)  # matrices are folded: nothing is read in between
    second = series.transformers[0].transform(moved(image, found[0]))
    points = voxels(image)
    torch.testing.assert_close(found[1](points), found[0](second(points)), rtol=0, atol=1e-4)
    assert torch.equal(series(image), moved(image, found[-1]))
    beside = Series([transformer("affine", channels=2)])
    assert torch.equal(beside(image, image.flip(-1)), image)


def test_a_shift_out_of_sight_and_back_loses_nothing_in_a_series() -> None:
    """What inverse-compositional transformers are for; one after another loses the border."""

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
    assert torch.equal(Series([there, back])(image), image)
    lost = nn.Sequential(there, back)(image)
    assert not lost[:, :, :9].any()
    assert torch.equal(lost[:, :, 9:], image[:, :, 9:])


def test_transformers_side_by_side_give_channels() -> None:
    network = shaken(
        Parallel([transformer("affine", channels=2), transformer("rigid", channels=2)])
    )
    image = image_of(2, channels=2)
    both = network(image)
    assert both.shape == (2, 4, *SHAPES[2])
    assert torch.equal(both[:, :2], network.transformers[0](image))
    assert torch.equal(both[:, 2:], network.transformers[1](image))


@pytest.mark.parametrize("head", ["similarity", "projective", "thin_plate_spline", "velocity"])
def test_what_is_found_in_the_transformers_frame_is_given_in_the_images(head: Head) -> None:
    network = Returning(shaken(transformer(head), 0.03), nn.Identity())
    axes = torch.meshgrid(*[torch.linspace(0, 3, n) for n in SHAPES[2]], indexing="ij")
    image = (axes[0].sin() + axes[1].cos())[None, None]
    again = network(image)
    assert not torch.equal(network.transformer(image), image)
    inner = (..., slice(6, -6), slice(6, -6))
    assert float((again - image)[inner].detach().abs().max()) < 0.05
    again.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_a_transformer_and_its_way_back_learn_to_agree() -> None:
    """Cycle consistency: one network there, one back, and the loss that ties them together."""
    torch.manual_seed(0)
    image, turned = image_of(2), image_of(2).flip(-1)
    pair, swapped = torch.cat([image, turned], 1), torch.cat([turned, image], 1)
    there, back = (
        shaken(transformer("affine", channels=2)),
        shaken(transformer("rigid", channels=2)),
    )
    points = voxels(image)
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


@pytest.mark.parametrize("looks", get_args(Looks))
@pytest.mark.parametrize("turns", get_args(Turns))
def test_two_images_under_one_transform(looks: Looks, turns: Turns) -> None:
    sees = {"first": 1, "both": 2, "support": 3}[looks]
    front = shaken(transformer("affine", channels=sees))
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(2 * 21 * 26, 5))
    network = TwoImages(front, classifier, looks, turns)
    images, support = image_of(2, channels=2), image_of(2, channels=3)
    seen = {"first": images[:, :1], "both": images, "support": support}[looks]
    transform = front.transform(seen)
    aligned = network.aligned(images, support)
    assert torch.equal(aligned[:, :1], moved(images[:, :1], transform))
    second = images[:, 1:]
    assert torch.equal(aligned[:, 1:], moved(second, transform) if turns == "both" else second)
    assert network(images, support).shape == (2, 5)
    if looks == "support":
        with pytest.raises(ValueError, match="give one"):
            network(images)


def test_an_image_is_aligned_to_a_support_image() -> None:
    """Affine alignment to a support image is learned without any label."""
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


@pytest.mark.parametrize("d", [2, 3])
def test_a_recurrent_transformer_looks_several_times(d: int) -> None:
    torch.manual_seed(0)
    encoder = fcn_encoder(SHAPES[d], 1, (12,))
    localisation = RecurrentLocalisation(encoder, 12, 3, hidden=8, spatial_dims=d)
    network, image = RecurrentTransformer(localisation, (8,) * d), image_of(d)
    at_birth = network(image)
    assert at_birth.shape == (2, 3, 1, *(8,) * d)
    assert torch.equal(at_birth[:, 0], at_birth[:, 2])
    zoomed = RecurrentTransformer(localisation, (8,) * d, share=0.5)(image)[:, 0]
    assert torch.equal(zoomed, moved(image, Affine.identity(d), (8,) * d, 0.5))
    assert not torch.equal(zoomed, at_birth[:, 0])
    seen = shaken(network)(image)
    assert not torch.equal(seen[:, 0], seen[:, 1])
    reader = EachStep(nn.Sequential(nn.Flatten(), nn.Linear(8**d, 10)))
    assert reader(seen).shape == (2, 3, 10)
    assert torch.allclose(reader(seen)[:, 1], reader.network(seen[:, 1]))
    reader(seen).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in localisation.parameters())


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_levels_of_a_pyramid_are_aligned_before_they_are_fused(shared: bool, d: int) -> None:
    torch.manual_seed(0)
    network = AlignedPyramid(d, 1, (4, 6, 8), 5, shared=shared)
    image = image_of(d, 1)
    levels = network(image)
    assert [level.shape[1] for level in levels] == [5, 5, 5]
    assert levels[0].shape[2:] == image.shape[2:]
    assert (network.transformers[0] is network.transformers[1]) == shared
    before = levels[0].detach()
    shaken(network.transformers, 0.3)
    assert not torch.allclose(network(image)[0], before)
    network(image)[0].square().sum().backward()
    # the coarsest level's own weights reach the finest one
    assert all(p.grad is not None and p.grad.any() for p in network.lateral[-1].parameters())
    assert all(p.grad is not None and p.grad.any() for p in network.transformers.parameters())


@pytest.mark.parametrize("shape", [(28, 28), (30, 42)])
def test_classifiers_have_a_number_for_each_class(shape: tuple[int, int]) -> None:
    image = torch.rand(3, 2, *shape)
    assert fcn(shape, 2, 10, (16, 8))(image).shape == (3, 10)
    assert cnn(shape, 2, 7, (4, 5), dropout=0.5)(image).shape == (3, 7)
    assert cnn_encoder(shape, 2)(image).shape == (3, 20)
    assert fcn_encoder(shape, 2, (32, 16))(image).shape == (3, 16)


@pytest.mark.parametrize("head", ["affine", "projective", "thin_plate_spline", "b_spline"])
def test_half_precision_does_not_move_points(head: Head) -> None:
    """Under autocast the encoder may be coarse; where points lie is not."""
    network, image = transformer(head), image_of(2)
    with torch.no_grad():
        network.localisation.head.layers[-1].bias.fill_(0.3)
    exact = network(image)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(image)
    assert rough.dtype == torch.float32
    assert torch.equal(rough, exact)


@pytest.mark.parametrize("d", [2, 3])
def test_a_spatial_softmax_tells_where_a_map_is_large(d: int) -> None:
    shape = (9, 12, 7)[:d]
    maps = torch.zeros(2, 3, *shape)
    index = tuple(n // 3 for n in shape)
    maps[(1, 2, *index)] = 100.0
    points = SpatialSoftmax(3, d)(maps).unflatten(1, (3, d))
    expected = torch.tensor([(2 * i + 1) / n - 1 for i, n in zip(index, shape, strict=True)])
    torch.testing.assert_close(points[1, 2], expected)
    torch.testing.assert_close(points[0], torch.zeros(3, d), rtol=0, atol=1e-6)


def test_a_spatial_softmax_may_lean_to_the_first_of_two_places() -> None:
    maps = torch.zeros(1, 1, 4, 11)
    maps[0, 0, 1, [2, 8]] = 50.0
    softmax = SpatialSoftmax(1, 2)
    assert abs(float(softmax(maps)[0, 1].detach())) < 1e-6  # between both
    first = softmax(maps, torch.tensor([[[0.0, -30.0]]]))
    torch.testing.assert_close(first, torch.tensor([[-0.25, 5 / 11 - 1]]))


def test_recurrent_points_are_identities_at_birth_and_differ_when_taught() -> None:
    torch.manual_seed(0)
    encoder = map_encoder(1, 4, (3, 3), (3, 3))
    localisation = RecurrentPoints(encoder, 4, steps=3, hidden=8)
    image = torch.rand(2, 1, 14, 18)
    points = voxels(image)
    for transform in localisation(image):
        torch.testing.assert_close(transform(points), points.expand(2, -1, -1, -1))
    for parameter in localisation.head.parameters():
        nn.init.normal_(parameter)
    first, second, third = (transform(points) for transform in localisation(image))
    assert not torch.allclose(first, second)
    assert not torch.allclose(second, third)
    assert encoder(image).shape == (2, 4, 7, 9)
