"""Small networks and images for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stn3d.nets import HeadKind, PyramidLocalisation, SpatialTransformer
from stn3d.nets.cascade import Cascade
from stn3d.nets.heads import HEADS
from stn3d.nets.pyramid import PyramidCascade

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
    """One stage of each kind, the first applied twice."""
    shared = {"spatial_dims": d, "channels": (4, 6), "control_points": 3}
    stages = [{"head": h, "factor": 2 if h == "rigid" else 1, **shared} for h in HEADS]
    return Cascade(stages, [2] + [1] * (len(HEADS) - 1))


def randomised(network: nn.Module, amount: float = 0.1) -> nn.Module:
    """The network with noise added to its weights."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        parameter.data += amount * torch.randn_like(parameter)
    return network


def with_gains(network: PyramidCascade, gain: float = 0.5) -> PyramidCascade:
    """The network with one gain of all demons steps: untrained, it aligns images."""
    for residual in network.residuals.values():
        for layer in residual.gains.values():  # type: ignore[union-attr]
            nn.init.constant_(layer.bias, gain)
    return network.eval()


def pair_of(d: int, batch: int = 2, channels: int = 1) -> Tensor:
    return torch.rand(batch, 2 * channels, *SHAPES[d], generator=torch.Generator().manual_seed(0))


def blob(shape: tuple[int, ...], centre: tuple[float, ...], width: float = 3.0) -> Tensor:
    axes = torch.meshgrid(*[torch.arange(n).float() for n in shape], indexing="ij")
    squares = [(a - c) ** 2 for a, c in zip(axes, centre, strict=True)]
    return torch.exp(-sum(squares) / (2 * width**2))[None, None]


def image_of(d: int, batch: int = 2, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *SHAPES[d], generator=torch.Generator().manual_seed(0))


def transformer(
    head: HeadKind = "affine", d: int = 2, channels: int = 1, **options: Any
) -> SpatialTransformer:
    localisation = PyramidLocalisation(head, d, channels, channels=(4, 6), control_points=4)
    return SpatialTransformer(localisation, **options)


SMALL = {
    "channels": (4, 6, 8),
    "hidden": (4, 6, 8),
    "radii": (1, 1, 1),
    "repeats": (1, 1, 1),
    "steps": (1, 0, 1),
}
