"""Classifiers, encoders and the classifier of two images."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from stn3d.nets import (
    PairClassifier,
    cnn,
    cnn_encoder,
    fcn,
    fcn_encoder,
    warp_tensor,
)
from stn3d.nets.classifiers import LocalisationInput, WarpTarget
from tests.helpers.networks import (
    image_of,
    randomised,
    transformer,
)


@pytest.mark.parametrize("shape", [(28, 28), (30, 42)])
def test_classifiers_have_one_output_for_each_class(shape: tuple[int, int]) -> None:
    image = torch.rand(3, 2, *shape)
    assert fcn(shape, 2, 10, (16, 8))(image).shape == (3, 10)
    assert cnn(shape, 2, 7, (4, 5), dropout=0.5)(image).shape == (3, 7)
    assert cnn_encoder(shape, 2)(image).shape == (3, 20)
    assert fcn_encoder(shape, 2, (32, 16))(image).shape == (3, 16)


@pytest.mark.parametrize("localise_from", get_args(LocalisationInput))
@pytest.mark.parametrize("warp", get_args(WarpTarget))
def test_two_images_share_one_transform(localise_from: LocalisationInput, warp: WarpTarget) -> None:
    sees = {"first": 1, "both": 2, "support": 3}[localise_from]
    front = randomised(transformer("affine", channels=sees))
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(2 * 21 * 26, 5))
    network = PairClassifier(front, classifier, localise_from, warp)
    images, support = image_of(2, channels=2), image_of(2, channels=3)
    seen = {"first": images[:, :1], "both": images, "support": support}[localise_from]
    transform = front.transform(seen)
    aligned = network.aligned(images, support)
    assert torch.equal(aligned[:, :1], warp_tensor(images[:, :1], transform))
    second = images[:, 1:]
    assert torch.equal(aligned[:, 1:], warp_tensor(second, transform) if warp == "both" else second)
    assert network(images, support).shape == (2, 5)
    if localise_from == "support":
        with pytest.raises(ValueError, match="required"):
            network(images)
