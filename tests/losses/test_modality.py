"""nmi and mind_ssc: known values, masks, contrast, gradients, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.errors import InputError
from stn3d.losses import mind_descriptor, mind_ssc, nmi

SHAPES = [(13, 11), (9, 7, 8)]
LOSSES: dict[str, Callable[..., Tensor]] = {"nmi": nmi, "mind_ssc": mind_ssc}


def image(shape: tuple[int, ...], seed: int = 0, batch: int = 1) -> Tensor:
    """A smooth image, 0..1."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(batch, 1, *[n + 2 for n in shape], generator=generator).double()
    pool = F.avg_pool2d if len(shape) == 2 else F.avg_pool3d
    smooth = pool(noise, 3, 1)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def half_mask(shape: tuple[int, ...]) -> Tensor:
    mask = torch.ones(1, 1, *shape)
    mask[:, :, : shape[0] // 4] = 0
    return mask


@pytest.mark.parametrize("shape", [(8, 6), (5, 4, 4)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_by_the_moved_image_are_right(
    name: str, masked: bool, shape: tuple[int, ...]
) -> None:
    fixed, mask = image(shape), half_mask(shape) if masked else None
    options = {"bins": 8} if name == "nmi" else {"radius": 1, "dilation": 1}
    moved = (0.1 + 0.8 * image(shape, 1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: LOSSES[name](fixed, m, mask, **options), [moved])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_loss_is_least_where_the_images_agree(name: str, shape: tuple[int, ...]) -> None:
    big = image(tuple(n + 4 for n in shape))

    def seen(shift: int) -> Tensor:
        starts = [2 + shift, *[2] * (len(shape) - 1)]
        return big[(..., *[slice(a, a + n) for a, n in zip(starts, shape, strict=True)])]

    values = {s: LOSSES[name](seen(0), seen(s)).item() for s in (-2, -1, 0, 1, 2)}
    assert min(values, key=lambda s: values[s]) == 0
    assert values[0] < 0.6 * min(values[1], values[-1])
    assert all(0 <= v <= 1 for v in values.values())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_voxels_outside_the_mask_have_no_influence(name: str, shape: tuple[int, ...]) -> None:
    mask = half_mask(shape)
    fixed, moved = image(shape), image(shape, 1).requires_grad_()
    options = {} if name == "nmi" else {"radius": 1, "dilation": 1}
    value = LOSSES[name](fixed, moved, mask, **options)
    value.backward()
    other = torch.where(mask == 0, moved.flip(-1), moved)
    assert LOSSES[name](fixed, other, mask, **options).item() == pytest.approx(value.item())
    assert LOSSES[name](fixed, other, **options).item() != pytest.approx(value.item(), rel=1e-3)
    assert moved.grad is not None
    assert (moved.grad[(mask == 0).expand_as(moved)] == 0).all()
    assert (moved.grad != 0).any()


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("level", [0.0, 0.7])
def test_flat_images_and_empty_masks_have_finite_gradients(name: str, level: float) -> None:
    flat = torch.full((1, 1, 9, 9), level, requires_grad=True)
    for mask in (None, torch.zeros(1, 1, 9, 9)):
        value = LOSSES[name](image((9, 9)).float(), flat, mask)
        value.backward()
        assert value.isfinite()
        assert flat.grad is not None
        assert flat.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_loss_of_a_batch_is_the_mean_over_its_images(name: str) -> None:
    # The batch's images have one variance, so the noise floors agree.
    a, b = image((12, 10), 1), image((12, 10), 2)
    fixed, moved = torch.cat([a, a.flip(2)]), torch.cat([b, b.flip(3)])
    each = [LOSSES[name](fixed[i : i + 1], moved[i : i + 1]).item() for i in range(2)]
    assert LOSSES[name](fixed, moved).item() == pytest.approx(sum(each) / 2, rel=1e-4)


def test_nmi_ignores_any_map_of_intensities_and_knows_unrelated_images() -> None:
    a = image((80, 70))
    levels = (a * 7).round() / 7
    swapped = torch.tensor([0.3, 1.0, 0.1, 0.7, 0.0, 0.9, 0.5, 0.2])[(levels * 7).long()].double()
    unrelated = nmi(levels, image((80, 70), 5)).item()
    assert nmi(levels, swapped).item() < 0.45 < unrelated
    assert unrelated == pytest.approx(1, abs=0.1)
    assert nmi(levels, torch.full_like(a, 0.4)).item() == pytest.approx(1)


def test_nmi_wants_five_bins() -> None:
    with pytest.raises(InputError, match="5 bins"):
        nmi(image((6, 6)), image((6, 6)), bins=4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("radius", "dilation"), [(1, 1), (1, 2), (2, 1), (0, 2)])
def test_the_descriptor_compares_patches_one_by_one(
    shape: tuple[int, ...], radius: int, dilation: int
) -> None:
    a, d, reach = image(shape, 3), len(shape), radius + dilation
    padded = F.pad(a, [reach] * 2 * d, mode="replicate")[0, 0]
    steps = [
        dilation * sign * torch.eye(d, dtype=torch.long)[axis]
        for axis in range(d)
        for sign in (-1, 1)
    ]
    pairs = [(p, q) for i, p in enumerate(steps) for q in steps[:i] if (p * q).sum() == 0]
    pairs = [(p, q) for p, q in pairs if (p + q).any()]
    assert len(pairs) == {2: 4, 3: 12}[d]

    def patch(centre: Tensor) -> Tensor:
        return padded[tuple(slice(c + reach - radius, c + reach + radius + 1) for c in centre)]

    found = mind_descriptor(a, radius=radius, dilation=dilation)
    assert found.shape == (1, len(pairs), *shape)
    corners = list(product(*[(0, n // 2, n - 1) for n in shape]))
    for at in corners:
        here = torch.tensor(at)
        distances = torch.stack(
            [((patch(here + p) - patch(here + q)) ** 2).sum() for p, q in pairs]
        )
        expected = torch.exp(-(distances - distances.min()) / distances.mean())
        torch.testing.assert_close(
            found[(0, slice(None), *at)].sort().values, expected.sort().values, rtol=1e-6, atol=0
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_mind_ignores_inverted_and_other_linear_contrast(shape: tuple[int, ...]) -> None:
    a = image(shape)
    assert mind_ssc(a, 1 - a).item() == pytest.approx(0, abs=1e-12)
    assert mind_ssc(a, 0.2 + 0.3 * a).item() == pytest.approx(0, abs=1e-12)
    assert mind_ssc(a, image(shape, 1)).item() > 0.02
