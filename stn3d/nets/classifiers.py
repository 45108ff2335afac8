"""Classifiers with spatial transformers, and small encoders for localisation networks.

The networks of Jaderberg et al. 2015 (arXiv:1506.02025), section 4.1 and appendix A, are
compositions: ``Sequential(transformer, AvgPool2d(2), cnn(...))``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from stn3d.arguments import tensor_arguments
from stn3d.nets.spatial_transformer import ComposedTransformers, SpatialTransformer


class PlainSequential(nn.Sequential):
    """Layers in order; the output is a plain tensor, also for a MetaTensor."""

    @tensor_arguments()
    def forward(self, input: Tensor) -> Tensor:
        """The output of the last layer."""
        output: Tensor = super().forward(input)
        return output


def fcn(shape: Sequence[int], in_channels: int, classes: int, units: Sequence[int]) -> nn.Module:
    """Fully connected classifier of all pixels, with a ReLU after each hidden layer.

    Args:
        shape: Shape of the images.
        in_channels: Channels of the images.
        classes: Number of classes.
        units: Units of each hidden layer.
    """
    sizes = [in_channels * torch.Size(shape).numel(), *units]
    return PlainSequential(nn.Flatten(), *_dense(sizes), nn.Linear(sizes[-1], classes))


def cnn(
    shape: Sequence[int],
    in_channels: int,
    classes: int,
    filters: Sequence[int],
    kernel_sizes: Sequence[int] = (9, 7),
    dropout: float = 0.0,
) -> nn.Module:
    """Convolutional classifier: unpadded convolutions, ReLU, 2x2 max pooling, one linear layer.

    Args:
        shape: Shape of the images.
        in_channels: Channels of the images.
        classes: Number of classes.
        filters: Filters of each convolution.
        kernel_sizes: Kernel size of each convolution.
        dropout: Dropout probability before the linear layer.
    """
    features = convolutions(in_channels, filters, kernel_sizes)
    size = torch.Size(features(torch.zeros(1, in_channels, *shape)).shape).numel()
    return PlainSequential(features, nn.Flatten(), nn.Dropout(dropout), nn.Linear(size, classes))


def convolutions(
    in_channels: int, filters: Sequence[int], kernel_sizes: Sequence[int], last_pool: bool = True
) -> nn.Sequential:
    """Convolutions without padding, each with ReLU and 2x2 max pooling.

    Args:
        in_channels: Channels of the images.
        filters: Filters of each convolution.
        kernel_sizes: Kernel size of each convolution.
        last_pool: Pool after the last convolution too.
    """
    layers: list[nn.Module] = []
    before = [in_channels, *filters[:-1]]
    for index, (a, b, kernel) in enumerate(zip(before, filters, kernel_sizes, strict=True)):
        layers += [nn.Conv2d(a, b, kernel), nn.ReLU(inplace=True)]
        if last_pool or index < len(filters) - 1:
            layers.append(nn.MaxPool2d(2))
    return PlainSequential(*layers)


def fcn_encoder(shape: Sequence[int], in_channels: int, units: Sequence[int]) -> nn.Module:
    """Fully connected encoder of all pixels, ReLU after each layer; ``(B, units[-1])``."""
    sizes = [in_channels * torch.Size(shape).numel(), *units]
    return PlainSequential(nn.Flatten(), *_dense(sizes))


def cnn_encoder(
    shape: Sequence[int],
    in_channels: int,
    filters: Sequence[int] = (20, 20),
    kernel_sizes: Sequence[int] = (5, 5),
    units: int = 20,
) -> nn.Module:
    """Convolutional encoder with one fully connected layer; ``(B, units)``."""
    features = convolutions(in_channels, filters, kernel_sizes, last_pool=False)
    size = torch.Size(features(torch.zeros(1, in_channels, *shape)).shape).numel()
    return PlainSequential(features, nn.Flatten(), *_dense([size, units]))


def map_encoder(
    in_channels: int,
    maps: int = 20,
    filters: Sequence[int] = (20, 20),
    kernel_sizes: Sequence[int] = (5, 5),
) -> nn.Module:
    """Convolutional encoder with padding; ``(B, maps, *shape)`` for `SpatialSoftmax`.

    Args:
        in_channels: Channels of the images, which may have any shape.
        maps: Number of output feature maps.
        filters: Filters of each convolution; 2x2 max pooling between convolutions.
        kernel_sizes: Kernel size of each convolution, odd.
    """
    layers: list[nn.Module] = []
    before = [in_channels, *filters[:-1]]
    for index, (a, b, kernel) in enumerate(zip(before, filters, kernel_sizes, strict=True)):
        layers += [nn.MaxPool2d(2)] if index else []
        layers += [nn.Conv2d(a, b, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
    return PlainSequential(*layers, nn.Conv2d(filters[-1], maps, 1))


def _dense(sizes: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU(inplace=True)]
    return layers


LocalisationInput = Literal["first", "both", "support"]
WarpTarget = Literal["both", "first"]


class PairClassifier(nn.Module):
    """Classifier of two images with one shared spatial transformer.

    Args:
        transformer: Estimates one transform for both images.
        classifier: Classifies the concatenated channels of both images.
        localise_from: Input of the localisation network: the ``first`` image, ``both`` images as
            channels, or a ``support`` image.
        warp: Images that are warped: ``both``, or only the ``first``.
    """

    def __init__(
        self,
        transformer: SpatialTransformer | ComposedTransformers,
        classifier: nn.Module,
        localise_from: LocalisationInput = "both",
        warp: WarpTarget = "both",
    ) -> None:
        super().__init__()
        self.transformer, self.classifier = transformer, classifier
        self.localise_from, self.warp = localise_from, warp

    @tensor_arguments()
    def aligned(self, images: Tensor, support: Tensor | None = None) -> Tensor:
        """Both images as the classifier sees them; arguments as for `forward`."""
        first, second = images.chunk(2, dim=1)
        if self.localise_from == "support" and support is None:
            raise ValueError("localise_from is 'support': a support image is required.")
        source = {"first": first, "both": images, "support": support}[self.localise_from]
        if self.warp == "both":
            # Without a separate input, `ComposedTransformers` localises on the warped images.
            return self.transformer(images, None if self.localise_from == "both" else source)
        return torch.cat([self.transformer(first, source), second], dim=1)

    @tensor_arguments()
    def forward(self, images: Tensor, support: Tensor | None = None) -> Tensor:
        """Class scores.

        Args:
            images: ``(B, 2 C, *shape)``, channels of the first image, then of the second.
            support: ``(B, C', *shape)``, required if ``localise_from`` is ``support``.

        Raises:
            ValueError: A support image is required and missing.
        """
        scores: Tensor = self.classifier(self.aligned(images, support))
        return scores
