"""Small images and masks for the tests of losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHAPES = [(6, 5), (4, 3, 5)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Normal noise of variance 1, float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_mask(shape: tuple[int, ...]) -> Tensor:
    """Weights 0, 0.5 and 1, all present."""
    return (noise(1, 1, *shape, seed=9) * 2).round().clamp(0, 2) / 2


def smooth_image(shape: tuple[int, ...], seed: int = 0, batch: int = 1) -> Tensor:
    """A smooth image, 0..1."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(batch, 1, *[n + 2 for n in shape], generator=generator).double()
    pool = F.avg_pool2d if len(shape) == 2 else F.avg_pool3d
    smooth = pool(noise, 3, 1)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def half_mask(shape: tuple[int, ...]) -> Tensor:
    """Ones, and zeros in the first quarter along the first axis."""
    mask = torch.ones(1, 1, *shape)
    mask[:, :, : shape[0] // 4] = 0
    return mask
