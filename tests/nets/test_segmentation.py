"""The segmentation network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stn3d.errors import InputError
from stn3d.losses.segmentation import SegmentationLoss
from stn3d.nets.segmentation import (
    SegmentationNetwork,
    blocks_to_channels,
    channels_to_blocks,
)
from stn3d.nets.weights import load_weights, save_weights

SHAPES = {2: (19, 22), 3: (13, 16, 11)}


def tiny(d: int, classes: int = 5) -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(d, classes=classes, channels=(8, 12), voxel_channels=6)


@pytest.mark.parametrize("d", [2, 3])
def test_voxels_become_channels_and_return_to_their_places(d: int) -> None:
    image = torch.rand(2, 3, *[2 * n for n in (3, 4, 2)[:d]])
    channels = blocks_to_channels(image)
    assert channels.shape == (2, 3 * 2**d, *(3, 4, 2)[:d])
    corner = (slice(None), slice(None), *[slice(1, None, 2)] * d)
    assert torch.equal(channels[:, 2**d - 1 :: 2**d], image[corner])
    # the inverse expects the voxel's place before the feature
    by_place = channels.unflatten(1, (3, 2**d)).transpose(1, 2).flatten(1, 2)
    assert torch.equal(channels_to_blocks(by_place).movedim(-1, 1), image)


@pytest.mark.parametrize("d", [2, 3])
def test_logits_lie_on_the_image_grid_and_all_weights_learn(d: int) -> None:
    network = tiny(d)
    logits = network(torch.rand(2, 1, *SHAPES[d]))
    assert logits.shape == (2, 5, *SHAPES[d])
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_a_few_steps_learn_to_tell_tissues_and_places_apart() -> None:
    """Bright and dark voxels, and the two halves of the image, are four classes."""
    network = tiny(2, classes=4)
    image = (torch.rand(1, 1, 16, 16) > 0.5).float()
    classes = image.long()
    classes[..., 8:] += 2
    optimiser = torch.optim.AdamW(network.parameters(), 0.02)
    losses = []
    for _ in range(40):
        loss, _ = SegmentationLoss()([network(image)], {"classes": classes})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    assert float((network(image).argmax(dim=1) == classes[:, 0]).float().mean()) > 0.97


def test_weights_are_restored_and_have_a_role(tmp_path: Path) -> None:
    path, network = tmp_path / "model.safetensors", tiny(3).eval()
    save_weights(path, network, {"spacing_mm": 2.0, "shape": [16, 16, 16]}, {})
    image = torch.rand(1, 1, *SHAPES[3])
    assert torch.equal(load_weights(path, "segmentation").network(image), network(image))
    with pytest.raises(InputError, match="no deformable network"):
        load_weights(path, "deformable")
