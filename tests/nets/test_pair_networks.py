"""Properties that all networks for image pairs share."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.networks import (
    SHAPES,
    cascade,
    pair_of,
    pyramid,
    randomised,
)

NETWORKS = {
    "pyramid": pyramid,
    "pyramid, not symmetric": lambda d: pyramid(d, symmetric=False, dropout=0.1),
    "pyramid without a finest head": lambda d: pyramid(d, hidden=(0, 6, 8)),
    "cascade": cascade,
}


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_initialised_to_the_identity(name: str, d: int) -> None:
    network = NETWORKS[name](d)
    displacement = network(pair_of(d))
    assert displacement.shape == (2, d, *SHAPES[d])
    assert torch.equal(displacement, torch.zeros_like(displacement))
    assert all(torch.equal(u, torch.zeros_like(u)) for u in network.stages(pair_of(d)))


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_of_a_randomised_network_gets_a_gradient(name: str, d: int) -> None:
    network = randomised(NETWORKS[name](d))
    network(pair_of(d)).square().sum().backward()
    unmoved = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # a bias before instance normalisation would have no gradient: there is none
    assert unmoved == []


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_options_rebuild_a_network(name: str, d: int) -> None:
    network = randomised(NETWORKS[name](d)).eval()
    again = type(network)(**network.options).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(pair_of(d)), network(pair_of(d)))


@pytest.mark.parametrize("name", NETWORKS)
def test_pairs_of_a_batch_are_independent(name: str) -> None:
    network, pair = randomised(NETWORKS[name](2), 0.05).eval(), pair_of(2)
    pair[1] = 0.01 * pair[1] + 0.1 * (pair[1] > 0.9)
    alone = torch.cat([network(p[None]) for p in pair])
    assert torch.allclose(network(pair), alone, atol=1e-5)
