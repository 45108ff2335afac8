"""Regions, and the loops that work in them: the reference's values inside, nothing outside."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.kernels import Region, dispatch, reference
from stn3d.losses.similarity import textured
from stn3d.preprocessing.prepared import PreparedImage
from tests.helpers.geometry_cases import QUICK, random, uniform

SHAPES = [(7, 5), (6, 7, 5), (1, 6), (6, 1), (5, 1, 4), (1, 5, 6), (5, 6, 1)]
DTYPES = [torch.float32, torch.float64]
UNTOUCHED = 77.0


def hull(mask: Tensor) -> Tensor:
    """Each row filled from its first voxel to its last."""
    after, before = mask.cumsum(dim=-1) > 0, mask.flip(-1).cumsum(dim=-1).flip(-1) > 0
    return after & before


def dilated(mask: Tensor, radii: tuple[int, ...]) -> Tensor:
    window = np.ones([2 * r + 1 for r in radii], bool)
    return torch.from_numpy(ndimage.binary_dilation(mask.numpy(), window))


def ragged(shape: tuple[int, ...], seed: int = 3) -> Region:
    """Runs of all lengths, some of none."""
    return Region.of(uniform(0, 1, *shape, seed=seed) < 0.4)


def alike(actual: Tensor, expected: Tensor) -> None:
    close = {"rtol": 1e-4, "atol": 2e-5} if actual.dtype == torch.float32 else {}
    torch.testing.assert_close(actual, expected.to(actual), **close)


def assert_done_in(region: Region, d: int, actual: Tensor, expected: Tensor) -> None:
    """Of the shape ``(..., *shape)``: as expected in the region, as it was elsewhere."""
    inside = region.mask(actual.shape[-d:])
    alike(actual[..., inside], expected[..., inside])
    assert bool((actual[..., ~inside] == UNTOUCHED).all())


# -- regions --------------------------------------------------------------------------------------


@st.composite
def masks(draw: st.DrawFn) -> Tensor:
    """Any bool mask of 1 to 6 voxels along an axis, 2D or 3D."""
    shape = draw(st.lists(st.integers(1, 6), min_size=2, max_size=3))
    return torch.from_numpy(draw(hnp.arrays(bool, tuple(shape))))


@QUICK
@given(masks())
def test_a_region_of_a_mask_is_its_rows_from_end_to_end(mask: Tensor) -> None:
    region = Region.of(mask)
    assert torch.equal(region.mask(mask.shape), hull(mask))
    assert region.num_voxels == int(hull(mask).sum())
    assert (region.lengths.reshape(mask.shape[:-1]) == hull(mask).sum(dim=-1).numpy()).all()


@QUICK
@given(masks())
def test_the_full_region_holds_all(mask: Tensor) -> None:
    region = Region.full(mask.shape)
    assert bool(region.mask(mask.shape).all())
    assert region.num_voxels == mask.numel()


@QUICK
@given(masks(), st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_a_grown_region_is_the_dilation_from_end_to_end(mask: Tensor, reach: list[int]) -> None:
    radii = tuple(reach[: mask.ndim])
    grown = Region.of(mask).grown(radii)
    assert torch.equal(grown.mask(mask.shape), hull(dilated(hull(mask), radii)))
    assert grown.num_voxels == int(grown.mask(mask.shape).sum())


@QUICK
@given(masks())
def test_a_region_without_faces_keeps_axes_of_one_voxel(mask: Tensor) -> None:
    region = Region.of(mask)
    before, expected = region.runs.copy(), hull(mask)
    for axis, n in enumerate(mask.shape):
        if n > 1:
            expected.select(axis, 0).zero_()
            expected.select(axis, -1).zero_()
    assert torch.equal(region.without_faces().mask(mask.shape), expected)
    assert (region.runs == before).all()


# -- warp -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_warp_is_the_reference_in_its_region(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    d = len(shape)
    image = random(1, 2, *[n + 1 for n in shape]).to(dtype)
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:-1] += random(d, d + 1, seed=1, scale=0.1)
    field = random(1, d, *shape, seed=2).to(dtype)
    region = ragged(shape)
    out = tuple(torch.full_like(b, UNTOUCHED) for b in kernels.buffers(image, field))
    found = kernels.warp(image, matrix, field, region, out)
    expected = reference.warp(image, matrix, field)
    assert found.moved is out[0]
    assert_done_in(region, d, found.moved, expected.moved)
    assert found.coverage is not None
    assert expected.coverage is not None
    assert_done_in(region, d, found.coverage, expected.coverage)
    whole = kernels.warp(image, matrix, field)
    for mine, its in zip(whole, expected, strict=True):
        alike(mine, its)


@pytest.mark.parametrize("d", [2, 3])
def test_warp_tells_coverage_only_where_the_image_ends(d: int) -> None:
    image, still = random(1, 1, *[9] * d), torch.zeros(1, d, *[5] * d).double()
    inner, shifted = (torch.eye(d + 1, dtype=torch.float64) for _ in range(2))
    inner[:-1, -1], shifted[0, -1] = 2, -1.0
    assert kernels.warp(image, inner, still).coverage is None
    assert kernels.warp(image, shifted, still).coverage is not None
    mask = torch.zeros([5] * d, dtype=torch.bool)
    mask[(slice(2, 4),) * d] = True
    assert kernels.warp(image, shifted, still, Region.of(mask)).coverage is None


@pytest.mark.parametrize("d", [2, 3])
def test_an_images_outer_voxels_go_on_beyond_its_faces(d: int) -> None:
    image, still = random(1, 1, *[9] * d), torch.zeros(1, d, *[9] * d).double()
    far = torch.eye(d + 1, dtype=torch.float64)
    far[0, -1] = 30
    warped = kernels.warp(image, far, still)
    alike(warped.moved, image[:, :, -1:].expand_as(image))
    assert warped.coverage is not None
    assert bool((warped.coverage == 0).all())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fading", [False, True])
def test_warp_slope_is_the_reference_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype, fading: bool
) -> None:
    d, region = len(shape), ragged(shape)
    image = random(1, 2, *[n + (n > 1) for n in shape]).to(dtype)
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:-1] += random(d, d + 1, seed=1, scale=0.1)
    field = random(1, d, *shape, seed=2, scale=0.3).to(dtype)
    inside = region.mask(shape)
    by_moved = torch.where(inside, random(1, 2, *shape, seed=3), 0).to(dtype)
    by_coverage = torch.where(inside, random(1, 1, *shape, seed=4), 0).to(dtype)
    slopes = by_moved, by_coverage if fading else None
    expected = reference.warp_slope(image, matrix, field, *slopes)
    close = {"rtol": 1e-3, "atol": 1e-3} if dtype == torch.float32 else {}
    for where in (None, region):
        found = kernels.warp_slope(image, matrix, field, *slopes, where)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, **close)


@pytest.mark.parametrize("d", [2, 3])
def test_warp_slope_tells_how_a_loss_of_values_and_coverage_changes(d: int) -> None:
    shape = (7, 6, 5)[:d]
    image, still = random(1, 1, *shape), torch.zeros(1, d, *shape).double()
    target, weight = random(1, 1, *shape, seed=1), uniform(0, 1, 1, 1, *shape)
    matrix = torch.eye(d + 1, dtype=torch.float64)
    matrix[:-1] += random(d, d + 1, seed=2, scale=0.05)
    matrix[0, -1] = -0.7  # some points lie in the outer voxel and beyond

    def loss(matrix: Tensor) -> Tensor:
        moved, coverage = kernels.warp(image, matrix, still)
        assert coverage is not None
        return (weight * coverage * (moved - target) ** 2).sum()

    moved, coverage = kernels.warp(image, matrix, still)
    assert coverage is not None
    by_moved, by_coverage = 2 * weight * coverage * (moved - target), weight * (moved - target) ** 2
    slope = kernels.warp_slope(image, matrix, still, by_moved, by_coverage)
    step = 1e-6
    for a, b in np.ndindex(d, d + 1):
        change = torch.zeros_like(matrix)
        change[a, b] = step
        measured = (loss(matrix + change) - loss(matrix - change)) / (2 * step)
        torch.testing.assert_close(slope[a, b], measured, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [*SHAPES, (3, 8, 9)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_force_is_the_reference_in_its_region(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    d, region = len(shape), ragged(shape).without_faces()
    moved, by_moved = (random(1, 2, *shape, seed=s).to(dtype) for s in (0, 1))
    out = torch.full((1, d, *shape), UNTOUCHED).to(dtype)
    assert kernels.force(moved, by_moved, region, out) is out
    assert_done_in(region, d, out, reference.force(moved, by_moved))


@pytest.mark.parametrize("d", [2, 3])
def test_force_points_where_a_step_before_the_transform_helps_most(d: int) -> None:
    # moving(T(x + s)) for an affine T and a quadratic image: central differences are exact.
    grid, centre = centred(d, 9), random(d, seed=1, scale=2)
    turn = torch.eye(d, dtype=torch.float64) + random(d, d, seed=2, scale=0.3)
    step = random(d, *[9] * d, seed=3, scale=1e-6)

    def moved(points: Tensor) -> Tensor:
        through = torch.einsum("ab,b...->a...", turn, points)
        return ((through.movedim(0, -1) - centre) ** 2).sum(dim=-1)[None, None]

    by_moved, out = random(1, 1, *[9] * d, seed=4), torch.zeros(1, d, *[9] * d).double()
    inner = Region.full([9] * d).without_faces()
    kernels.force(moved(grid), by_moved, inner, out)
    gain = (by_moved * (moved(grid + step) - moved(grid)))[0, 0]
    expected = -(out[0] * step).sum(dim=0)
    seen = inner.mask([9] * d)
    torch.testing.assert_close(gain[seen], expected[seen], rtol=1e-3, atol=1e-9)


def test_coverage_fades_over_the_last_voxel_and_counts_axes_apart() -> None:
    at = torch.tensor([-0.6, -0.5, -0.25, 0.0, 0.5, 2.0, 3.5, 4.0, 4.4, 4.5, 9.0]).double()
    along = torch.tensor([0, 0, 0.25, 0.5, 1, 1, 1, 0.5, 0.1, 0, 0]).double()
    points = torch.cartesian_prod(at, at)
    expected = (along[:, None] * along).flatten()
    torch.testing.assert_close(reference.coverage(points, (5, 5)), expected)
    points = torch.stack([at.clamp(-0.4, 0.4), at], dim=-1)
    torch.testing.assert_close(reference.coverage(points, (1, 5)), along)
    assert float(reference.coverage(torch.tensor([[0.6, 2.0]]), (1, 5))) == 0


# -- local correlation ----------------------------------------------------------------------------


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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [(1, 2, 1), (2, 2, 2)])
def test_lncc_counts_the_windows_of_a_region(
    shape: tuple[int, ...], radius: tuple[int, ...]
) -> None:
    radii, windows = radius[: len(shape)], ragged(shape)
    fixed = random(1, 1, *shape)
    moved = (fixed + 0.5 * random(1, 1, *shape, seed=1)).requires_grad_()
    value = kernels.lncc(fixed, moved, None, radii, 0.02, 0.02, windows)
    expected = lncc_by_hand(fixed, moved, radii, 0.02, windows.mask(shape))
    torch.testing.assert_close(value, expected)
    slopes = [torch.autograd.grad(v, moved)[0] for v in (value, expected)]
    torch.testing.assert_close(*slopes)


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
def test_textured_windows_are_all_that_count(d: int, weighted: bool) -> None:
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


# -- smoothing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sigma", [(0.55, 0.55, 0.55), (1.73, 0.0, 1.0), (4.0, 4.0, 4.0)])
def test_gaussian_smooth_is_the_reference_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype, sigma: tuple[float, ...]
) -> None:
    d, region = len(shape), ragged(shape)
    image = random(1, d, *shape).to(dtype)
    out = torch.full_like(image, UNTOUCHED)
    assert kernels.gaussian_smooth(image, sigma[:d], region, out) is out
    assert_done_in(region, d, out, reference.gaussian_smooth(image, sigma[:d]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_diffuse_divergence_is_the_reference_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    d, region = len(shape), ragged(shape).without_faces()
    field, weights = random(1, d, *shape).to(dtype), (0.15, 0.1, 0.05)[:d]
    out = torch.full_like(field, UNTOUCHED)
    kernels.diffuse_divergence(field, weights, region, out)
    assert_done_in(region, d, out, reference.diffuse_divergence(field, weights))


def diffused(field: Tensor, times: int = 1) -> Tensor:
    region = Region.full(field.shape[2:]).without_faces()
    for _ in range(times):
        weights = [0.15] * field.shape[1]
        field = kernels.diffuse_divergence(field, weights, region, field.clone())
    return field


def centred(d: int, n: int) -> Tensor:
    """``(d, n, ...)`` coordinates from the middle of a cube."""
    lines = [torch.arange(n).double() - (n - 1) / 2] * d
    return torch.stack(torch.meshgrid(*lines, indexing="ij"))


@pytest.mark.parametrize("d", [2, 3])
def test_a_field_that_only_turns_is_left_alone(d: int) -> None:
    x = centred(d, 11)
    swirl = torch.zeros_like(x)  # faster farther out: its second derivatives are not 0
    swirl[0], swirl[1] = -x[1], x[0]
    swirl = 0.01 * (x**2).sum(dim=0) * swirl[None]
    torch.testing.assert_close(diffused(swirl), swirl)
    assert not torch.allclose(kernels.gaussian_smooth(swirl, [0.55] * d), swirl, atol=1e-3)


@pytest.mark.parametrize("d", [2, 3])
def test_growth_at_one_spot_is_levelled_out(d: int) -> None:
    x = centred(d, 27)
    source = (x * torch.exp(-(x**2).sum(dim=0) / 8))[None]

    def growth(field: Tensor) -> Tensor:
        slopes = [torch.gradient(field[0, a], dim=a)[0] for a in range(d)]
        return torch.stack(slopes).sum(dim=0)

    before, after = growth(source), growth(diffused(source, 20))
    assert float(after.max()) < 0.3 * float(before.max())
    assert float(after.min()) > float(before.min())
    assert float(after.sum()) == pytest.approx(float(before.sum()), abs=0.1 * float(before.max()))


# -- steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_take_step_is_the_reference_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    d, region = len(shape), ragged(shape)
    step, field = (random(1, d, *shape, seed=s).to(dtype) for s in (0, 1))
    out = torch.full_like(field, UNTOUCHED)
    assert kernels.take_step(step, field, 0.7, 1.0, region, out) is out
    assert_done_in(region, d, out, reference.take_step(0.7 * step, field, 1.0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("plain", [False, True])
def test_a_velocity_goes_on_where_the_step_is_taken(
    shape: tuple[int, ...], dtype: torch.dtype, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    d, region = len(shape), ragged(shape)
    step, field, velocity = (random(1, d, *shape, seed=s).to(dtype) for s in (0, 1, 2))
    total, before = 0.7 * step + 0.4 * velocity, velocity.clone()
    expected = reference.take_step(total, field, 1.0)
    inside = region.mask(shape)
    if plain:
        monkeypatch.setattr(dispatch, "fused", lambda *_: False)
    out = torch.where(inside, step, UNTOUCHED)  # the step itself may give way to the result
    kernels.take_step(out, field, 0.7, 1.0, region, out, velocity, 0.4)
    assert_done_in(region, d, out, expected)
    alike(velocity[..., inside], total[..., inside])
    assert torch.equal(velocity[..., ~inside], before[..., ~inside])


@pytest.mark.parametrize(
    "take", [kernels.take_step, lambda s, f, a, b, *_: reference.take_step(a * s, f, b)]
)
@pytest.mark.parametrize("d", [2, 3])
def test_long_steps_are_cut_and_short_ones_are_not(d: int, take: Callable[..., Tensor]) -> None:
    shape = (9, 8, 7)[:d]
    step, still = random(1, d, *shape), torch.zeros(1, d, *shape).double()
    taken = take(step, still, 0.5, 0.6, Region.full(shape), still.clone())
    asked, length = (torch.linalg.vector_norm(v, dim=1) for v in (0.5 * step, taken))
    assert 0.2 < float((asked > 0.6).double().mean()) < 0.9
    torch.testing.assert_close(length, asked.clamp(max=0.6))
    torch.testing.assert_close(taken, 0.5 * step * (length / asked)[:, None])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_taper_weighs_and_measures_in_its_region(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    d, region = len(shape), ragged(shape)
    inside = region.mask(shape)
    weights = [uniform(0, 1, n, seed=n).to(dtype) for n in shape]
    vectors = torch.where(inside, random(1, d, *shape).to(dtype), UNTOUCHED)
    expected = torch.where(inside, vectors, 0)
    longest = reference.taper(expected, weights, 0.5)  # of few vectors the longest counts
    assert kernels.taper(vectors, weights, region, 0.5) == pytest.approx(longest, rel=1e-6)
    assert_done_in(region, d, vectors, expected)


@pytest.mark.parametrize("taper", [kernels.taper, lambda v, w, _, q: reference.taper(v, w, q)])
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.999, 1.0])
def test_taper_finds_the_quantile_of_the_vectors_that_are_not_0(
    quantile: float, taper: Callable[..., float]
) -> None:
    shape = (14, 13, 12)
    vectors = random(1, 3, *shape) * (uniform(0, 1, *shape) < 0.6)
    lengths = torch.linalg.vector_norm(vectors[0], dim=0)
    lengths = lengths[lengths > 0].numpy()
    ones = [torch.ones(n) for n in shape]
    expected = np.quantile(lengths, quantile, method="inverted_cdf")
    assert taper(vectors, ones, None, quantile) == pytest.approx(float(expected), rel=1e-12)
    assert taper(torch.zeros_like(vectors), ones, None, quantile) == 0


def test_some_rows_of_a_large_field_tell_the_quantile_of_all() -> None:
    shape = (80, 80, 80)
    vectors = random(1, 3, *shape).float()
    ones = [torch.ones(n) for n in shape]
    some = kernels.taper(vectors, ones, None, 0.99)
    every = np.quantile(torch.linalg.vector_norm(vectors[0], dim=0).numpy(), 0.99)
    assert some != pytest.approx(every, rel=1e-7)
    assert some == pytest.approx(every, rel=0.01)
    assert some == pytest.approx(reference.taper(vectors, ones, 0.99), rel=1e-6)


# -- threads --------------------------------------------------------------------------------------


def everything(shape: tuple[int, ...]) -> list[Tensor]:
    """What every loop of the dense stage makes of one pair of images, as bytes."""
    d = len(shape)
    mask = (torch.stack([c**2 for c in centred(d, shape[0])]).sum(dim=0)).sqrt() < 0.45 * shape[0]
    region = Region.of(mask)
    image, field = random(1, 1, *shape).float(), random(1, d, *shape, seed=1, scale=0.5).float()
    fixed, weight = random(1, 1, *shape, seed=2).float(), uniform(0, 1, 1, 1, *shape).float()
    warped = kernels.warp(image, torch.eye(d + 1), field, region)
    results = [w for w in warped if w is not None]
    for w in (None, weight):
        moved = warped.moved.clone().requires_grad_()
        loss = kernels.lncc(fixed, moved, w, [2] * d, 0.01, 0.01, region)
        results += [loss.detach(), torch.autograd.grad(loss, moved)[0]]
    inner, out = region.without_faces(), torch.zeros_like(field)
    results.append(kernels.gaussian_smooth(field, [1.73] * d, region, out.clone()))
    results.append(kernels.take_step(field, field, 0.5, 0.6, region, out.clone()))
    results.append(kernels.diffuse_divergence(field, [0.15] * d, inner, out.clone()))
    results.append(kernels.force(image, fixed, inner, out.clone()))
    results.append(kernels.warp_slope(image, torch.eye(d + 1), field, fixed, weight, region))
    length = kernels.taper(field, [torch.linspace(0, 1, n) for n in shape], region, 0.9)
    return [*results, field, torch.tensor(length)]


@pytest.mark.parametrize("shape", [(160, 160), (32, 32, 32)])
def test_one_thread_and_two_give_the_same_bytes(shape: tuple[int, ...]) -> None:
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(everything(shape))
    finally:
        torch.set_num_threads(before)
    assert all(itertools.starmap(torch.equal, zip(*found, strict=True)))
