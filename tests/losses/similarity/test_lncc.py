"""The local correlation: windows, invariances, spacing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from stn3d.grid import Grid
from stn3d.kernels import box_sum
from stn3d.losses import lncc, ncc
from tests.helpers.images import SHAPES, noise, some_mask


@pytest.mark.parametrize("shape", SHAPES)
def test_lncc_equals_correlations_counted_window_by_window(shape: tuple[int, ...]) -> None:
    a, b, mask = noise(*shape, seed=1), noise(*shape, seed=2), some_mask(shape)[0, 0]
    total, weights = 0.0, 0.0
    for centre in torch.cartesian_prod(*[torch.arange(n) for n in shape]).tolist():
        box = tuple(slice(max(c - 1, 0), c + 2) for c in centre)
        w, x, y = mask[box].flatten(), a[box].flatten(), b[box].flatten()
        if mask[tuple(centre)] == 0:
            continue
        x, y = x - (w * x).sum() / w.sum(), y - (w * y).sum() / w.sum()
        if (w * x * x).sum() < 1e-10:  # one voxel is a flat window, and those do not count
            continue
        power = (w * x * x).sum() * (w * y * y).sum()
        squared = (w * x * y).sum() ** 2 / power if power > 1e-20 else torch.zeros(())
        total += (mask[tuple(centre)] * squared).item()
        weights += mask[tuple(centre)].item()
    value = lncc(a[None, None], b[None, None], mask[None, None], radius_mm=1, floor=1e-14)
    assert value.item() == pytest.approx(1 - total / weights, abs=1e-7)


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(
    gain=st.floats(0.01, 100),
    sign=st.sampled_from([-1, 1]),
    offset=st.floats(-20, 20),
    d=st.sampled_from([2, 3]),
)
def test_lncc_ignores_contrast_sign_and_brightness(
    gain: float, sign: int, offset: float, d: int
) -> None:
    shape = SHAPES[d - 2]
    a, b = noise(1, 1, *shape, seed=1), noise(1, 1, *shape, seed=2)
    expected = lncc(a, b).item()
    assert lncc(a, sign * gain * (b + offset)).item() == pytest.approx(expected, rel=1e-6)
    assert 0 <= expected <= 1


def test_lncc_ignores_a_smooth_bias_that_ncc_does_not() -> None:
    a = torch.nn.functional.avg_pool2d(noise(1, 1, 64, 64), 3, 1, 1)
    ramp = torch.linspace(0, 1, 64, dtype=torch.float64)[:, None]
    biased = a * (1 + ramp) + 5 * ramp
    assert ncc(a, biased).item() > 0.5
    assert lncc(a, biased).item() < 0.1
    assert lncc(a, noise(1, 1, 64, 64, seed=4)).item() > 0.7


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=3),
    radius=st.integers(1, 4),
    data=st.data(),
)
def test_box_sum_is_scipys_uniform_filter(
    shape: list[int], radius: int, data: st.DataObject
) -> None:
    radii = [radius, *(data.draw(st.integers(0, 4)) for _ in shape[1:])]
    image = noise(1, 2, *shape)
    size = [1, 1, *(2 * r + 1 for r in radii)]
    count = torch.tensor(size).prod().item()
    expected = ndimage.uniform_filter(image.numpy(), size, mode="constant") * count
    torch.testing.assert_close(box_sum(image, radii), torch.from_numpy(expected))


@pytest.mark.parametrize(("shape", "radii"), [((5, 4), (2, 1)), ((3, 4, 5), (1, 5, 0))])
def test_box_sum_has_right_first_and_second_gradients(
    shape: tuple[int, ...], radii: tuple[int, ...]
) -> None:
    image = noise(1, 1, *shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: box_sum(x, radii), [image])
    assert torch.autograd.gradgradcheck(lambda x: box_sum(x, radii) ** 2, [image])


def waves(grid: Grid, phase: float) -> Tensor:
    """One smooth physical image, ``(1, 1, *shape)``."""
    p = grid.points_mm() * torch.linspace(0.28, 0.4, grid.ndim, dtype=torch.float64)
    return (torch.sin(p + phase).sum(-1) + torch.cos(1.3 * p).prod(-1))[None, None]


@pytest.mark.parametrize("d", [2, 3])
def test_lncc_is_independent_of_spacing(d: int) -> None:
    coarse = Grid.of_spacing([24] * 2 if d == 2 else [14] * 3, 1.0)
    values = [
        lncc(waves(grid, 0), waves(grid, 0.9), radius_mm=4, spacing_mm=grid.spacing_mm).item()
        for grid in (coarse, coarse.resampled(0.5), coarse.resampled([0.5, *[1.0] * (d - 1)]))
    ]
    assert values[0] > 0.05
    assert values[1:] == pytest.approx([values[0]] * 2, rel=0.06)
    in_voxels = lncc(
        waves(coarse.resampled(0.5), 0), waves(coarse.resampled(0.5), 0.9), radius_mm=4
    )
    assert in_voxels.item() != pytest.approx(values[0], rel=0.1)


@pytest.mark.parametrize("shape", SHAPES)
def test_known_values(shape: tuple[int, ...]) -> None:
    a = noise(1, 1, *shape, seed=1)
    assert lncc(a, a, floor=0).item() == pytest.approx(0, abs=1e-12)
