"""LNCC: the reference, its definition window by window, regions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.kernels import Region
from stn3d.kernels.lncc import reference
from stn3d.losses.similarity import textured
from stn3d.preprocessing.prepared import PreparedImage
from tests.helpers.geometry_cases import random, uniform
from tests.kernels.cases import (
    DTYPES,
    REGION_SHAPES,
    SHAPES,
    assert_alike,
    ragged,
    strided,
    two_images,
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_lncc_equals_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, weighted: bool
) -> None:
    fixed, moved, weight = two_images(shape, dtype)
    options = ((2, 1, 3)[: len(shape)], 0.01, 0.02)
    inputs = [strided(fixed).requires_grad_(), strided(moved).requires_grad_()]
    inputs += [weight] if weighted else []

    def by(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda f, m, w=None: loss(f, m, w, *options)

    assert_alike(by(kernels.lncc), by(reference.lncc), inputs)
    if dtype == torch.float64:
        assert gradcheck(by(kernels.lncc), inputs, fast_mode=True)


def lncc_by_hand(
    fixed: Tensor, moved: Tensor, radii: tuple[int, ...], noise: float, centres: Tensor
) -> Tensor:
    """The definition, window by window."""
    gain = total = torch.zeros((), dtype=fixed.dtype)
    for centre in centres.nonzero().tolist():
        window = tuple(slice(max(c - r, 0), c + r + 1) for c, r in zip(centre, radii, strict=True))
        f, m = fixed[0, 0][window].flatten(), moved[0, 0][window].flatten()
        f, m = f - f.mean(), m - m.mean()
        var_f, var_m, cross = (f * f).mean(), (m * m).mean(), (f * m).mean()
        texture = var_f / (var_f + 10 * noise)
        gain = gain + texture * cross**2 / ((var_f + noise) * (var_m + noise))
        total = total + texture
    return 1 - gain / total


@pytest.mark.parametrize("shape", REGION_SHAPES)
@pytest.mark.parametrize("radius", [(1, 2, 1), (2, 2, 2)])
def test_lncc_uses_the_windows_of_a_region(shape: tuple[int, ...], radius: tuple[int, ...]) -> None:
    radii, windows = radius[: len(shape)], ragged(shape)
    fixed = random(1, 1, *shape)
    moved = (fixed + 0.5 * random(1, 1, *shape, seed=1)).requires_grad_()
    value = kernels.lncc(fixed, moved, None, radii, 0.02, 0.02, windows)
    expected = lncc_by_hand(fixed, moved, radii, 0.02, windows.mask(shape))
    torch.testing.assert_close(value, expected)
    gradients = [torch.autograd.grad(v, moved)[0] for v in (value, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("shape", [(14, 12), (12, 10, 11)])
@pytest.mark.parametrize("weighted", [False, True])
def test_lncc_does_not_read_beyond_its_windows(shape: tuple[int, ...], weighted: bool) -> None:
    radii = (1, 2, 1)[: len(shape)]
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice(2, n - 5) for n in shape)] = uniform(0, 1, *[n - 7 for n in shape]) < 0.5
    windows = Region.of(mask)
    reached = windows.grown(radii).mask(shape)
    fixed, moved = random(1, 1, *shape), random(1, 1, *shape, seed=1)
    weight = uniform(0.2, 1, 1, 1, *shape) if weighted else None
    found = []
    for beyond in (0.0, math.nan):
        f, m = (torch.where(reached, x, beyond) for x in (fixed, moved))
        m.requires_grad_()
        value = kernels.lncc(f, m, weight, radii, 0.02, 0.02, windows)
        found.append((value.detach(), torch.autograd.grad(value, m)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert bool((found[0][1][..., ~reached] == 0).all())
    assert bool((found[0][1][..., reached] != 0).any())


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_windows_without_texture_have_no_effect(d: int, weighted: bool) -> None:
    grid, radii = Grid.of_spacing((16, 15, 14)[:d]), [2] * d
    fixed = torch.zeros(1, 1, *grid.shape).double()
    body = (0, 0, *[slice(4, 9)] * d)
    fixed[body] = uniform(0.2, 1, *[5] * d)
    moved = random(1, 1, *grid.shape, seed=1).requires_grad_()
    weight = uniform(0.2, 1, 1, 1, *grid.shape) if weighted else None
    seen = textured(PreparedImage(fixed, grid), radii)
    assert 0 < int(seen.sum()) < 0.7 * seen.numel()
    values = [
        kernels.lncc(fixed, moved, weight, radii, 1e-4, 1e-4, windows)
        for windows in (None, Region.of(seen))
    ]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*[torch.autograd.grad(v, moved)[0] for v in values])
