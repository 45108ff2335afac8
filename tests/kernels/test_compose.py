"""Composition, exponentials and steps: the reference, momentum, limits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stn3d import kernels
from stn3d.kernels import Region
from stn3d.kernels.common import dispatch
from stn3d.kernels.compose import reference
from tests.helpers.geometry_cases import random
from tests.kernels.cases import (
    BATCHES,
    DTYPES,
    REGION_SHAPES,
    SHAPES,
    UNTOUCHED,
    assert_alike,
    assert_done_in,
    assert_near,
    ragged,
    strided,
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batches", BATCHES)
def test_compose_equals_the_reference(
    shape: tuple[int, ...], dtype: torch.dtype, batches: tuple[int, int]
) -> None:
    d = len(shape)
    inputs = [
        strided(random(b, d, *shape, seed=b, scale=1.5)).to(dtype).requires_grad_() for b in batches
    ]
    assert_alike(kernels.compose, lambda a, b: reference.compose(*_broadcast(a, b)), inputs)


def _broadcast(a: Tensor, b: Tensor) -> list[Tensor]:
    return list(torch.broadcast_tensors(a, b))


@pytest.mark.parametrize("shape", SHAPES)
def test_exponential_is_repeated_composition(shape: tuple[int, ...]) -> None:
    velocity = random(1, len(shape), *shape, scale=0.5).float().requires_grad_()

    def plain(v: Tensor) -> Tensor:
        u = v / 8
        for _ in range(3):
            u = reference.compose(u, u)
        return u

    assert_alike(lambda v: kernels.exponential(v, 3), plain, [velocity])


@pytest.mark.parametrize("shape", REGION_SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_take_step_equals_the_reference_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    d, region = len(shape), ragged(shape)
    step, field = (random(1, d, *shape, seed=s).to(dtype) for s in (0, 1))
    out = torch.full_like(field, UNTOUCHED)
    assert kernels.take_step(step, field, 0.7, 1.0, region, out) is out
    assert_done_in(
        region,
        d,
        out,
        reference.take_step(step, field, 0.7, 1.0, Region.full(shape), torch.empty_like(field)),
    )


@pytest.mark.parametrize("shape", REGION_SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("plain", [False, True])
def test_the_velocity_is_updated_in_the_region(
    shape: tuple[int, ...], dtype: torch.dtype, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    d, region = len(shape), ragged(shape)
    step, field, velocity = (random(1, d, *shape, seed=s).to(dtype) for s in (0, 1, 2))
    total, before = 0.7 * step + 0.4 * velocity, velocity.clone()
    expected = reference.take_step(
        total, field, 1.0, 1.0, Region.full(shape), torch.empty_like(field)
    )
    inside = region.mask(shape)
    if plain:
        monkeypatch.setattr(dispatch, "supported", lambda *_: False)
    out = torch.where(inside, step, UNTOUCHED)  # the step may be overwritten by the result
    kernels.take_step(out, field, 0.7, 1.0, region, out, velocity, 0.4)
    assert_done_in(region, d, out, expected)
    assert_near(velocity[..., inside], total[..., inside])
    assert torch.equal(velocity[..., ~inside], before[..., ~inside])


@pytest.mark.parametrize("take", [kernels.take_step, reference.take_step])
@pytest.mark.parametrize("d", [2, 3])
def test_only_long_steps_are_shortened(d: int, take: Callable[..., Tensor]) -> None:
    shape = (9, 8, 7)[:d]
    step, still = random(1, d, *shape), torch.zeros(1, d, *shape).double()
    taken = take(step, still, 0.5, 0.6, Region.full(shape), still.clone())
    asked, length = (torch.linalg.vector_norm(v, dim=1) for v in (0.5 * step, taken))
    assert 0.2 < float((asked > 0.6).double().mean()) < 0.9
    torch.testing.assert_close(length, asked.clamp(max=0.6))
    torch.testing.assert_close(taken, 0.5 * step * (length / asked)[:, None])
