"""All metrics as functions: masks, gradients, batches, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stn3d.losses import gradient, lncc, mind_ssc, mse, ncc, nmi
from tests.helpers.images import SHAPES, half_mask, noise, smooth_image, some_mask

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "mse": mse,
    "ncc": ncc,
    "lncc": lncc,
    "nmi": nmi,
    "gradient": gradient,
}
MULTIMODAL: dict[str, Callable[..., Tensor]] = {"nmi": nmi, "mind_ssc": mind_ssc}
LARGER = [(13, 11), (9, 7, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_gradients_are_right(name: str, masked: bool, shape: tuple[int, ...]) -> None:
    loss = FUNCTIONS[name]
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
    value = FUNCTIONS[name](noise(1, 1, 6, 6).to(dtype), flat)
    value.backward()
    assert value.item() == pytest.approx(1, abs=1e-5)
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("name", ["ncc", "lncc"])
def test_two_empty_images_are_unrelated(name: str) -> None:
    assert FUNCTIONS[name](torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5)).item() == 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_voxels_outside_the_mask_have_no_influence(name: str, shape: tuple[int, ...]) -> None:
    loss, mask = FUNCTIONS[name], some_mask(shape)
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


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_mask_equals_a_crop_and_its_scale_does_not_matter(name: str) -> None:
    loss = FUNCTIONS[name]
    a, b = noise(1, 1, 8, 7, seed=1), noise(1, 1, 8, 7, seed=2)
    mask = torch.zeros(1, 1, 8, 7)
    mask[..., 2:7, 1:6] = 1
    cropped = loss(a[..., 2:7, 1:6], b[..., 2:7, 1:6])
    assert loss(a, b, mask).item() == pytest.approx(cropped.item(), rel=1e-9)
    assert loss(a, b, mask.bool()).item() == pytest.approx(cropped.item(), rel=1e-9)
    assert loss(a, b, mask / 4).item() == pytest.approx(cropped.item(), rel=1e-9)


@pytest.mark.parametrize("shape", [(8, 6), (5, 4, 4)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", sorted(MULTIMODAL))
def test_gradients_by_the_moved_image_are_right(
    name: str, masked: bool, shape: tuple[int, ...]
) -> None:
    fixed, mask = smooth_image(shape), half_mask(shape) if masked else None
    options = {"bins": 8} if name == "nmi" else {"radius": 1, "dilation": 1}
    moved = (0.1 + 0.8 * smooth_image(shape, 1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: MULTIMODAL[name](fixed, m, mask, **options), [moved])


@pytest.mark.parametrize("shape", LARGER)
@pytest.mark.parametrize("name", sorted(MULTIMODAL))
def test_the_loss_is_least_where_the_images_agree(name: str, shape: tuple[int, ...]) -> None:
    big = smooth_image(tuple(n + 4 for n in shape))

    def seen(shift: int) -> Tensor:
        starts = [2 + shift, *[2] * (len(shape) - 1)]
        return big[(..., *[slice(a, a + n) for a, n in zip(starts, shape, strict=True)])]

    values = {s: MULTIMODAL[name](seen(0), seen(s)).item() for s in (-2, -1, 0, 1, 2)}
    assert min(values, key=lambda s: values[s]) == 0
    assert values[0] < 0.6 * min(values[1], values[-1])
    assert all(0 <= v <= 1 for v in values.values())


@pytest.mark.parametrize("shape", LARGER)
@pytest.mark.parametrize("name", sorted(MULTIMODAL))
def test_voxels_outside_the_mask_have_no_influence_across_modalities(
    name: str, shape: tuple[int, ...]
) -> None:
    mask = half_mask(shape)
    fixed, moved = smooth_image(shape), smooth_image(shape, 1).requires_grad_()
    options = {} if name == "nmi" else {"radius": 1, "dilation": 1}
    value = MULTIMODAL[name](fixed, moved, mask, **options)
    value.backward()
    other = torch.where(mask == 0, moved.flip(-1), moved)
    assert MULTIMODAL[name](fixed, other, mask, **options).item() == pytest.approx(value.item())
    assert MULTIMODAL[name](fixed, other, **options).item() != pytest.approx(value.item(), rel=1e-3)
    assert moved.grad is not None
    assert (moved.grad[(mask == 0).expand_as(moved)] == 0).all()
    assert (moved.grad != 0).any()


@pytest.mark.parametrize("name", sorted(MULTIMODAL))
@pytest.mark.parametrize("level", [0.0, 0.7])
def test_flat_images_and_empty_masks_have_finite_gradients(name: str, level: float) -> None:
    flat = torch.full((1, 1, 9, 9), level, requires_grad=True)
    for mask in (None, torch.zeros(1, 1, 9, 9)):
        value = MULTIMODAL[name](smooth_image((9, 9)).float(), flat, mask)
        value.backward()
        assert value.isfinite()
        assert flat.grad is not None
        assert flat.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted(MULTIMODAL))
def test_the_loss_of_a_batch_is_the_mean_over_its_images(name: str) -> None:
    # The batch's images have one variance, so the noise floors agree.
    a, b = smooth_image((12, 10), 1), smooth_image((12, 10), 2)
    fixed, moved = torch.cat([a, a.flip(2)]), torch.cat([b, b.flip(3)])
    each = [MULTIMODAL[name](fixed[i : i + 1], moved[i : i + 1]).item() for i in range(2)]
    assert MULTIMODAL[name](fixed, moved).item() == pytest.approx(sum(each) / 2, rel=1e-4)
