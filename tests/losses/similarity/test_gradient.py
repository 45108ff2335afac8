"""Normalised gradient fields."""

from __future__ import annotations

import pytest
import torch

from stn3d.losses import gradient
from tests.helpers.images import SHAPES, noise, some_mask


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_its_formula_by_central_differences(shape: tuple[int, ...]) -> None:
    a, b, e = noise(*shape, seed=1), noise(*shape, seed=2), (0.3, 0.7)
    spacing = [1.0, 2.0, 0.5][: len(shape)]
    f, m = (torch.stack(torch.gradient(x, spacing=spacing)) for x in (a, b))
    f2, m2 = (f * f).sum(0), (m * m).sum(0)
    alike = (f * m).sum(0) ** 2 / ((f2 + e[0] ** 2) * (m2 + e[1] ** 2))
    expected = 1 - alike.sum() / (f2 / (f2 + e[0] ** 2)).sum()
    value = gradient(a[None, None], b[None, None], spacing_mm=spacing, edges=e)
    assert value.item() == pytest.approx(expected.item())


def test_gradient_of_a_plane_is_that_of_a_volume_of_it() -> None:
    a, b = noise(1, 1, 7, 6, seed=1), noise(1, 1, 7, 6, seed=2)
    mask = some_mask((7, 6))
    flat = gradient(a, b, mask).item()
    assert gradient(a[..., None], b[..., None], mask[..., None]).item() == pytest.approx(flat)
    deep = (x[..., None].expand(*x.shape, 4) for x in (a, b, mask))
    assert gradient(*deep).item() == pytest.approx(flat)


def test_gradient_ignores_contrast_and_sees_edges_alone() -> None:
    a = torch.nn.functional.avg_pool2d(noise(1, 1, 40, 40), 5, 1, 2)
    assert gradient(a, 5 - 3 * a).item() == pytest.approx(gradient(a, a).item(), abs=1e-9)
    assert gradient(a, a).item() < 0.1
    assert gradient(a, (4 * a).tanh()).item() < 0.15
    assert gradient(a, a.roll(4, dims=2)).item() > 0.4
    flat = torch.ones_like(a).requires_grad_()
    loss = gradient(a, flat)
    loss.backward()
    assert loss.item() == pytest.approx(1)
    assert flat.grad is not None
    assert flat.grad.isfinite().all()
    assert gradient(torch.ones_like(a), a).item() == 1
