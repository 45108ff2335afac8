"""Shared cases and comparisons of the kernel tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from stn3d.kernels import Region
from tests.helpers.geometry_cases import random, uniform

SHAPES = [(7, 5), (6, 7, 5), (1, 6), (5, 1, 4)]
DTYPES = [torch.float32, torch.float64]
BATCHES = [(1, 1), (2, 2), (2, 1), (1, 2)]
REGION_SHAPES = [(7, 5), (6, 7, 5), (1, 6), (6, 1), (5, 1, 4), (1, 5, 6), (5, 6, 1)]
UNTOUCHED = 77.0


def assert_alike(
    kernel: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> None:
    """Values, and gradients by all inputs that require one, equal the reference's."""
    wanted = [x for x in inputs if x.requires_grad]
    actual, expected = kernel(*inputs), plain(*inputs)
    assert actual.dtype == expected.dtype
    close = {"rtol": 1e-4, "atol": 2e-5} if actual.dtype == torch.float32 else {}
    torch.testing.assert_close(actual, expected, **close)
    if wanted:
        upstream = random(1, *actual.shape, seed=9)[0].to(actual)
        pair = [torch.autograd.grad(y, wanted, upstream) for y in (actual, expected)]
        for mine, its in zip(*pair, strict=True):
            torch.testing.assert_close(mine, its, **close)


def strided(tensor: Tensor) -> Tensor:
    """The same values in non-contiguous memory."""
    spread = torch.stack([tensor, tensor + 1], dim=-1).transpose(0, -2).contiguous()
    return spread.transpose(0, -2)[..., 0].detach()


def two_images(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """A fixed image, a similar one with values below 0 and above 1, and weights."""
    fixed = uniform(0, 1, 2, 2, *shape)
    moved = 1.3 * (0.7 * fixed + uniform(0, 0.3, 2, 2, *shape, seed=1)) - 0.15
    weight = uniform(0, 1, 1, 1, *shape, seed=2)
    return fixed.to(dtype), moved.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()


def hull(mask: Tensor) -> Tensor:
    """Each row filled from its first voxel to its last."""
    after, before = mask.cumsum(dim=-1) > 0, mask.flip(-1).cumsum(dim=-1).flip(-1) > 0
    return after & before


def dilated(mask: Tensor, radii: tuple[int, ...]) -> Tensor:
    window = np.ones([2 * r + 1 for r in radii], bool)
    return torch.from_numpy(ndimage.binary_dilation(mask.numpy(), window))


def ragged(shape: tuple[int, ...], seed: int = 3) -> Region:
    """Runs of all lengths, some empty."""
    return Region.of(uniform(0, 1, *shape, seed=seed) < 0.4)


def assert_near(actual: Tensor, expected: Tensor) -> None:
    close = {"rtol": 1e-4, "atol": 2e-5} if actual.dtype == torch.float32 else {}
    torch.testing.assert_close(actual, expected.to(actual), **close)


def assert_done_in(region: Region, d: int, actual: Tensor, expected: Tensor) -> None:
    """``(..., *shape)``: as expected in the region, unchanged elsewhere."""
    inside = region.mask(actual.shape[-d:])
    assert_near(actual[..., inside], expected[..., inside])
    assert bool((actual[..., ~inside] == UNTOUCHED).all())


def centred(d: int, n: int) -> Tensor:
    """``(d, n, ...)`` coordinates relative to the centre of a cube."""
    lines = [torch.arange(n).double() - (n - 1) / 2] * d
    return torch.stack(torch.meshgrid(*lines, indexing="ij"))
