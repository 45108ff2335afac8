"""mse, ncc, lncc: known values, masks, invariances, spacing, gradients, in 2D and 3D."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from stn3d.grid import Grid
from stn3d.kernels import box_sum
from stn3d.losses import SIMILARITIES, gradient, lncc, mse, ncc

SHAPES = [(6, 5), (4, 3, 5)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_mask(shape: tuple[int, ...]) -> Tensor:
    """Weights 0, 0.5 and 1, all present."""
    return (noise(1, 1, *shape, seed=9) * 2).round().clamp(0, 2) / 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", sorted(SIMILARITIES))
def test_gradients_are_right(name: str, masked: bool, shape: tuple[int, ...]) -> None:
    loss = SIMILARITIES[name]
    mask = some_mask(shape) if masked else None
    images = [noise(2, 1, *shape, seed=s).requires_grad_() for s in (1, 2)]
    # What counts as noise is held, as no gradient flows through it.
    held = {"lncc": {"variances": (1.0, 2.0)}, "gradient": {"edges": (0.5, 0.4)}}
    options = held.get(name, {})
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, mask, **options), images)


@pytest.mark.parametrize("level", [0.0, 3.0, 1234.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["ncc", "lncc"])
def test_a_constant_image_is_unrelated_and_has_finite_gradients(
    name: str, dtype: torch.dtype, level: float
) -> None:
    flat = torch.full((1, 1, 6, 6), level, dtype=dtype, requires_grad=True)
    value = SIMILARITIES[name](noise(1, 1, 6, 6).to(dtype), flat)
    value.backward()
    assert value.item() == pytest.approx(1, abs=1e-5)
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("name", ["ncc", "lncc"])
def test_two_empty_images_are_unrelated(name: str) -> None:
    assert SIMILARITIES[name](torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5)).item() == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_known_values(shape: tuple[int, ...]) -> None:
    a, b = noise(1, 1, *shape, seed=1), noise(1, 1, *shape, seed=2)
    assert mse(a, a + 3).item() == pytest.approx(9)
    pearson = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]
    assert ncc(a, b).item() == pytest.approx(1 - pearson.item())
    assert ncc(a, 2 * a + 5).item() == pytest.approx(0, abs=1e-12)
    assert ncc(a, -a).item() == pytest.approx(2)
    assert lncc(a, a, floor=0).item() == pytest.approx(0, abs=1e-12)


def test_ncc_of_a_batch_is_the_mean_over_its_images() -> None:
    a, b = noise(2, 1, 7, 6, seed=1), noise(2, 1, 7, 6, seed=2)
    each = [ncc(a[i : i + 1], b[i : i + 1]).item() for i in range(2)]
    assert ncc(a, b).item() == pytest.approx(sum(each) / 2)


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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(SIMILARITIES))
def test_voxels_outside_the_mask_have_no_influence(name: str, shape: tuple[int, ...]) -> None:
    loss, mask = SIMILARITIES[name], some_mask(shape)
    a, b = noise(1, 1, *shape, seed=1), noise(1, 1, *shape, seed=2).requires_grad_()
    value = loss(a, b, mask)
    value.backward()
    outside = mask == 0
    assert outside.any()
    other = torch.where(outside, a + 50, a), torch.where(outside, -7 * b - 90, b)
    assert loss(*other, mask).item() == pytest.approx(value.item(), rel=1e-12)
    assert loss(*other).item() != pytest.approx(value.item(), rel=1e-2)
    assert b.grad is not None
    assert (b.grad[outside] == 0).all()
    assert (b.grad[~outside] != 0).any()


@pytest.mark.parametrize("name", sorted(SIMILARITIES))
def test_a_mask_equals_a_crop_and_its_scale_does_not_matter(name: str) -> None:
    loss = SIMILARITIES[name]
    a, b = noise(1, 1, 8, 7, seed=1), noise(1, 1, 8, 7, seed=2)
    mask = torch.zeros(1, 1, 8, 7)
    mask[..., 2:7, 1:6] = 1
    cropped = loss(a[..., 2:7, 1:6], b[..., 2:7, 1:6])
    assert loss(a, b, mask).item() == pytest.approx(cropped.item(), rel=1e-9)
    assert loss(a, b, mask.bool()).item() == pytest.approx(cropped.item(), rel=1e-9)
    assert loss(a, b, mask / 4).item() == pytest.approx(cropped.item(), rel=1e-9)


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
