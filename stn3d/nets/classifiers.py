"""Classifiers that carry spatial transformers, and the small encoders that localise for them.

The networks of Jaderberg et al. 2015 (arXiv:1506.02025), section 4.1 and appendix A, are
compositions: ``Sequential(transformer, AvgPool2d(2), cnn(...))``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from stn3d.nets.spatial_transformer import Series, SpatialTransformer


def fcn(shape: Sequence[int], in_channels: int, classes: int, units: Sequence[int]) -> nn.Module:
    """Fully connected layers over all pixels, each with a ReLU but the last.

    Args:
        shape: of the images.
        in_channels: of the images.
        classes: numbers that are given, one a class.
        units: of the layers before the last.
    """
    sizes = [in_channels * torch.Size(shape).numel(), *units]
    return nn.Sequential(nn.Flatten(), *_dense(sizes), nn.Linear(sizes[-1], classes))


def cnn(
    shape: Sequence[int],
    in_channels: int,
    classes: int,
    filters: Sequence[int],
    widths: Sequence[int] = (9, 7),
    dropout: float = 0.0,
) -> nn.Module:
    """Convolutions without padding, each with a ReLU and a 2x2 maximum, then one dense layer.

    Args:
        shape: of the images.
        in_channels: of the images.
        classes: numbers that are given, one a class.
        filters: of each convolution.
        widths: of each convolution.
        dropout: share of the features that training leaves out before the dense layer.
    """
    features = convolutions(in_channels, filters, widths)
    size = torch.Size(features(torch.zeros(1, in_channels, *shape)).shape).numel()
    return nn.Sequential(features, nn.Flatten(), nn.Dropout(dropout), nn.Linear(size, classes))


def convolutions(
    in_channels: int, filters: Sequence[int], widths: Sequence[int], last_pool: bool = True
) -> nn.Sequential:
    """Convolutions without padding, each with a ReLU and a 2x2 maximum (the last one if wanted)."""
    layers: list[nn.Module] = []
    before = [in_channels, *filters[:-1]]
    for index, (a, b, width) in enumerate(zip(before, filters, widths, strict=True)):
        layers += [nn.Conv2d(a, b, width), nn.ReLU(inplace=True)]
        if last_pool or index < len(filters) - 1:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def fcn_encoder(shape: Sequence[int], in_channels: int, units: Sequence[int]) -> nn.Module:
    """The localisation's dense layers over all pixels, a ReLU after each; ``(B, units[-1])``."""
    sizes = [in_channels * torch.Size(shape).numel(), *units]
    return nn.Sequential(nn.Flatten(), *_dense(sizes))


def cnn_encoder(
    shape: Sequence[int],
    in_channels: int,
    filters: Sequence[int] = (20, 20),
    widths: Sequence[int] = (5, 5),
    units: int = 20,
) -> nn.Module:
    """The localisation's convolutions and its dense layer; ``(B, units)``."""
    features = convolutions(in_channels, filters, widths, last_pool=False)
    size = torch.Size(features(torch.zeros(1, in_channels, *shape)).shape).numel()
    return nn.Sequential(features, nn.Flatten(), *_dense([size, units]))


def map_encoder(
    in_channels: int,
    maps: int = 20,
    filters: Sequence[int] = (20, 20),
    widths: Sequence[int] = (5, 5),
) -> nn.Module:
    """A localisation's convolutions with padding; ``(B, maps, *shape)``, for `SpatialSoftmax`.

    Args:
        in_channels: of the images, which may have any shape.
        maps: that are given.
        filters: of each convolution; a 2x2 maximum stands between one and the next.
        widths: of each convolution, odd.
    """
    layers: list[nn.Module] = []
    before = [in_channels, *filters[:-1]]
    for index, (a, b, width) in enumerate(zip(before, filters, widths, strict=True)):
        layers += [nn.MaxPool2d(2)] if index else []
        layers += [nn.Conv2d(a, b, width, padding=width // 2), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(filters[-1], maps, 1))


def _dense(sizes: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
    return layers


Looks = Literal["first", "both", "support"]
Turns = Literal["both", "first"]


class TwoImages(nn.Module):
    """Two images under one transform, and one classifier of both.

    Args:
        transformer: finds one transform for both images.
        classifier: of both images' channels.
        looks: what the transform is found from: the ``first`` image, ``both`` as channels, or a
            ``support`` image.
        turns: what it is applied to: ``both`` images, or the ``first`` while the other one stands
            still.
    """

    def __init__(
        self,
        transformer: SpatialTransformer | Series,
        classifier: nn.Module,
        looks: Looks = "both",
        turns: Turns = "both",
    ) -> None:
        super().__init__()
        self.transformer, self.classifier = transformer, classifier
        self.looks, self.turns = looks, turns

    def aligned(self, images: Tensor, support: Tensor | None = None) -> Tensor:
        """Both images as the classifier sees them; see `forward`."""
        first, second = images.chunk(2, dim=1)
        if self.looks == "support" and support is None:
            raise ValueError("this network looks at a support image; give one.")
        seen = {"first": first, "both": images, "support": support}[self.looks]
        if self.turns == "both":
            # What is looked at is what is turned; a `Series` looks again at what it turned.
            return self.transformer(images, None if self.looks == "both" else seen)
        return torch.cat([self.transformer(first, seen), second], dim=1)

    def forward(self, images: Tensor, support: Tensor | None = None) -> Tensor:
        """What the classifier tells.

        Args:
            images: ``(B, 2 C, *shape)``, the first image's channels before the second's.
            support: ``(B, C', *shape)``, where the network looks at one.

        Raises:
            ValueError: it looks at a support image, and there is none.
        """
        answer: Tensor = self.classifier(self.aligned(images, support))
        return answer
