"""The feature-pyramid network: levels, heads, symmetry, demons steps."""

from __future__ import annotations

import pytest
import torch

from stn3d.errors import InputError
from stn3d.nets.blocks import upsample_displacement
from stn3d.sampler import sample_displaced
from tests.helpers.networks import (
    SHAPES,
    blob,
    pair_of,
    pyramid,
    randomised,
    with_gains,
)


@pytest.mark.parametrize("d", [2, 3])
def test_stages_are_levels_and_the_last_is_the_output(d: int) -> None:
    network, pair = randomised(pyramid(d)).eval(), pair_of(d)
    stages = network.stages(pair)
    padded = [-(-n // 4) * 4 for n in SHAPES[d]]
    assert [u.shape[2:] for u in stages] == [tuple(n // f for n in padded) for f in (4, 2, 1)]
    inner = tuple(slice(n) for n in SHAPES[d])
    assert torch.equal(network(pair), stages[-1][(..., *inner)])


def test_a_pyramid_without_a_finest_head_is_upsampled_to_the_finest_grid() -> None:
    network, pair = randomised(pyramid(2, hidden=(0, 6, 8), steps=(0, 1, 1))).eval(), pair_of(2)
    last = upsample_displacement(network.stages(pair)[-1])
    assert torch.equal(network(pair), last[..., : SHAPES[2][0], : SHAPES[2][1]])


@pytest.mark.parametrize("name", ["hidden", "radii", "repeats", "steps"])
def test_options_of_different_lengths_are_an_error(name: str) -> None:
    with pytest.raises(InputError, match=f"channels has 3 levels and {name} has 2"):
        pyramid(2, **{name: (1, 1)})


def test_the_first_residual_of_swapped_images_is_the_inverse() -> None:
    network = randomised(pyramid(2, repeats=(1, 1, 1), smoothings=2)).eval()
    fixed, moving = torch.rand(2, 1, 1, 80, 64)
    there = network.stages(torch.cat([fixed, moving], dim=1))[0]
    back = network.stages(torch.cat([moving, fixed], dim=1))[0]
    around = sample_displaced(back, there) + there  # forward, then backward
    assert there.abs().mean() > 0.01
    assert around[..., 2:-2, 2:-2].abs().mean() < 0.1 * there.abs().mean()


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("hidden", [(4, 6, 8), (0, 6, 8), (0, 0, 8), (0, 6, 0), (4, 0, 8)])
def test_demons_steps_with_constant_gains_align_images(d: int, hidden: tuple[int, ...]) -> None:
    network = with_gains(pyramid(d, hidden=hidden, steps=(4, 4, 2)))
    shape, centre = (24, 24, 20)[:d], (11.0, 12.0, 10.0)[:d]
    fixed, moving = blob(shape, centre), 0.5 * blob(shape, tuple(c + 1.0 for c in centre))
    moved = sample_displaced(moving, network(torch.cat([fixed, moving], dim=1)))
    before, after = (fixed - 2 * moving).norm(), (fixed - 2 * moved).norm()
    assert after < 0.5 * before
