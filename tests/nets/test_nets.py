"""Networks: the identity at birth, any shape, 2D as 3D, and what they are told to find is found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stn3d.errors import InputError
from stn3d.losses import lncc
from stn3d.nets.blocks import doubled
from stn3d.nets.cascade import Cascade, pair_transformer
from stn3d.nets.chart import ChartNetwork
from stn3d.nets.forces import correlation_force
from stn3d.nets.heads import HEADS
from stn3d.nets.pyramid import PyramidCascade
from stn3d.nets.spatial_transformer import moved, voxels
from stn3d.sampler import sample_displaced

SHAPES = {2: (21, 26), 3: (11, 13, 9)}


def pyramid(d: int, **options: Any) -> PyramidCascade:
    small = {
        "channels": (4, 6, 8),
        "hidden": (4, 6, 8),
        "radii": (0, 1, 1),
        "repeats": (1, 2, 1),
        "steps": (2, 1, 0),
    }
    return PyramidCascade(spatial_dims=d, **{**small, **options})


def cascade(d: int) -> Cascade:
    """One of each kind of stage, the first twice."""
    shared = {"spatial_dims": d, "channels": (4, 6), "control_points": 3}
    stages = [{"head": h, "factor": 2 if h == "rigid" else 1, **shared} for h in HEADS]
    return Cascade(stages, [2] + [1] * (len(HEADS) - 1))


NETWORKS = {
    "pyramid": pyramid,
    "pyramid, not symmetric": lambda d: pyramid(d, symmetric=False, dropout=0.1),
    "pyramid without a finest head": lambda d: pyramid(d, hidden=(0, 6, 8)),
    "cascade": cascade,
}


def shaken(network: nn.Module, amount: float = 0.1) -> nn.Module:
    """With weights that are no longer those of birth."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        parameter.data += amount * torch.randn_like(parameter)
    return network


def pair_of(d: int, batch: int = 2, channels: int = 1) -> Tensor:
    return torch.rand(batch, 2 * channels, *SHAPES[d], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_at_birth_a_network_is_the_identity(name: str, d: int) -> None:
    network = NETWORKS[name](d)
    displacement = network(pair_of(d))
    assert displacement.shape == (2, d, *SHAPES[d])
    assert torch.equal(displacement, torch.zeros_like(displacement))
    assert all(torch.equal(u, torch.zeros_like(u)) for u in network.stages(pair_of(d)))


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_all_weights_learn_once_a_network_has_moved(name: str, d: int) -> None:
    network = shaken(NETWORKS[name](d))
    network(pair_of(d)).square().sum().backward()
    unmoved = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # what instance normalisation takes away cannot learn: there is none of that here
    assert unmoved == []


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_its_options_rebuild_a_network(name: str, d: int) -> None:
    network = shaken(NETWORKS[name](d)).eval()
    again = type(network)(**network.options).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(pair_of(d)), network(pair_of(d)))


@pytest.mark.parametrize("name", NETWORKS)
def test_pairs_of_a_batch_know_nothing_of_each_other(name: str) -> None:
    network, pair = shaken(NETWORKS[name](2), 0.05).eval(), pair_of(2)
    pair[1] = 0.01 * pair[1] + 0.1 * (pair[1] > 0.9)
    alone = torch.cat([network(p[None]) for p in pair])
    assert torch.allclose(network(pair), alone, atol=1e-5)


@pytest.mark.parametrize("d", [2, 3])
def test_the_stages_of_a_pyramid_are_levels_and_the_last_is_the_answer(d: int) -> None:
    network, pair = shaken(pyramid(d)).eval(), pair_of(d)
    stages = network.stages(pair)
    padded = [-(-n // 4) * 4 for n in SHAPES[d]]
    assert [u.shape[2:] for u in stages] == [tuple(n // f for n in padded) for f in (4, 2, 1)]
    inner = tuple(slice(n) for n in SHAPES[d])
    assert torch.equal(network(pair), stages[-1][(..., *inner)])


def test_a_pyramid_without_a_finest_head_answers_on_the_finest_grid() -> None:
    network, pair = shaken(pyramid(2, hidden=(0, 6, 8), steps=(0, 1, 1))).eval(), pair_of(2)
    last = doubled(network.stages(pair)[-1])
    assert torch.equal(network(pair), last[..., : SHAPES[2][0], : SHAPES[2][1]])


@pytest.mark.parametrize("name", ["hidden", "radii", "repeats", "steps"])
def test_levels_that_do_not_match_are_told(name: str) -> None:
    with pytest.raises(InputError, match=f"channels has 3 levels and {name} has 2"):
        pyramid(2, **{name: (1, 1)})


def test_the_first_residual_of_swapped_images_is_the_inverse() -> None:
    network = shaken(pyramid(2, repeats=(1, 1, 1), smoothings=2)).eval()
    fixed, moving = torch.rand(2, 1, 1, 80, 64)
    there = network.stages(torch.cat([fixed, moving], dim=1))[0]
    back = network.stages(torch.cat([moving, fixed], dim=1))[0]
    around = sample_displaced(back, there) + there  # there, and back from where that leads
    assert there.abs().mean() > 0.01
    assert around[..., 2:-2, 2:-2].abs().mean() < 0.1 * there.abs().mean()


def blob(shape: tuple[int, ...], centre: tuple[float, ...], width: float = 3.0) -> Tensor:
    axes = torch.meshgrid(*[torch.arange(n).float() for n in shape], indexing="ij")
    squares = [(a - c) ** 2 for a, c in zip(axes, centre, strict=True)]
    return torch.exp(-sum(squares) / (2 * width**2))[None, None]


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("contrast", [1.0, -0.7])
def test_the_force_leads_to_the_fixed_image_at_any_contrast(d: int, contrast: float) -> None:
    shape, centre = (17, 16, 15)[:d], (8.0, 7.5, 7.0)[:d]
    moving = blob(shape, (centre[0] + 0.4, centre[1] - 0.3, *centre[2:]))
    fixed = 0.8 + contrast * blob(shape, centre)
    force = correlation_force(fixed, moving)
    assert force.norm(dim=1).max() <= 0.5
    nearer = sample_displaced(moving, force)
    gain = lncc(fixed, moving) - lncc(fixed, nearer)
    assert gain > 0.3 * (lncc(fixed, moving) - lncc(fixed, blob(shape, centre)))


def test_no_force_where_an_image_is_flat() -> None:
    flat, image = torch.full((1, 1, 9, 8), 0.7), torch.rand(1, 1, 9, 8)
    assert correlation_force(flat, image).abs().max() < 1e-3
    assert not correlation_force(image, flat).any()


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("hidden", [(4, 6, 8), (0, 6, 8), (0, 0, 8), (0, 6, 0), (4, 0, 8)])
def test_gains_alone_bring_images_together(d: int, hidden: tuple[int, ...]) -> None:
    network = pyramid(d, hidden=hidden, steps=(4, 4, 2)).eval()
    for residual in network.residuals.values():
        for gain in residual.gains.values():
            torch.nn.init.constant_(gain.bias, 0.5)
    shape, centre = (24, 24, 20)[:d], (11.0, 12.0, 10.0)[:d]
    fixed, moving = blob(shape, centre), 0.5 * blob(shape, tuple(c + 1.0 for c in centre))
    moved = sample_displaced(moving, network(torch.cat([fixed, moving], dim=1)))
    before, after = (fixed - 2 * moving).norm(), (fixed - 2 * moved).norm()
    assert after < 0.5 * before


@pytest.mark.parametrize("head", HEADS)
def test_a_spatial_transformer_learns_to_bring_a_moving_blob_back(head: Any) -> None:
    torch.manual_seed(0)
    fixed, moving = blob((24, 24), (11.5, 11.5)), blob((24, 24), (13.5, 10.0))
    pair = torch.cat([fixed, moving], dim=1)
    network = pair_transformer(head, spatial_dims=2, channels=(4, 8), control_points=4)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    before = (moving - fixed).square().mean()
    for _ in range(60):
        loss = (network(moving, pair) - fixed).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1 * before
    # fixed points go to moving points: the blob's middle moves by (2, -1.5)
    with torch.no_grad():
        displacement = network.transform(pair)(torch.tensor([[[11.5, 11.5]]])) - 11.5
    assert displacement[0, 0] == pytest.approx([2.0, -1.5], abs=0.5)


def test_a_cascade_composes_its_stages_as_transforms() -> None:
    network, pair = shaken(cascade(2), 0.05).eval(), pair_of(2)
    transforms = network.transforms(pair)
    assert len(transforms) == len(HEADS) + 1
    seen = moved(pair[:, 1:], transforms[-2])
    last = network.series.transformers[-1]
    residual = last.transform(torch.cat([pair[:, :1], seen], dim=1))
    points = voxels(pair)
    assert torch.allclose(transforms[-1](points), transforms[-2](residual(points)), atol=1e-4)


def test_blocks_of_a_coarse_stage_keep_the_middle_in_place() -> None:
    stage = pair_transformer("affine", factor=2, spatial_dims=2, channels=(4,))
    stage.localisation.head.layers[-1].bias.data[:] = torch.tensor([1.0, 0, 0, 1.0, 0, 0])
    pair = torch.rand(1, 2, 8, 12)
    middle = torch.tensor([[[3.5, 5.5]]])
    assert torch.allclose(stage.transform(pair)(middle), middle, atol=1e-5)
    assert torch.allclose(stage.transform(pair)(middle + 1), middle + 1.2, atol=1e-5)


@pytest.mark.parametrize("d", [2, 3])
def test_images_of_a_few_voxels_are_padded_by_pyramids_and_told_by_others(d: int) -> None:
    pair = torch.rand(1, 2, *(3,) * d)
    assert shaken(pyramid(d))(pair).shape == (1, d, *(3,) * d)
    assert ChartNetwork(d, channels=(4, 6, 8))(pair[:, :1]).shape == (1, d + 1, *(2,) * d)
    with pytest.raises(InputError, match="too small for 4 levels"):
        pair_transformer("affine", spatial_dims=d).transform(pair)


def test_an_unknown_head_is_told() -> None:
    with pytest.raises(InputError, match="affine"):
        pair_transformer("afine")  # type: ignore[arg-type]


@pytest.mark.parametrize("d", [2, 3])
def test_a_chart_covers_the_image_with_half_the_voxels_and_knows_nothing_at_birth(d: int) -> None:
    network = ChartNetwork(d, channels=(4, 6, 8))
    image = torch.rand(2, 1, *SHAPES[d])
    chart = network(image)
    assert chart.shape == (2, d + 1, *[-(-n // 2) for n in SHAPES[d]])
    assert not chart.any()
    shaken(network)(image).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    sizes = [u.shape[2] for u in network.stages(image)]
    assert sizes == [-(-SHAPES[d][0] // 4), 2 * -(-SHAPES[d][0] // 4)]
