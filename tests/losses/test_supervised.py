"""dice, landmarks, truth_error, one_hot, common_labels: known values, masks, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stn3d.losses import common_labels, dice, landmarks, one_hot, truth_error

SHAPES = [(6, 5), (4, 3, 5)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_right(shape: tuple[int, ...], masked: bool) -> None:
    d, mask = len(shape), noise(1, 1, *shape, seed=3).round() if masked else None
    maps = [noise(2, 3, *shape, seed=s).requires_grad_() for s in (1, 2)]
    fields = [noise(2, d, *shape, seed=s).requires_grad_() for s in (1, 2)]
    points = [noise(2, 7, d, seed=s).requires_grad_() for s in (1, 2)]
    weight = noise(2, 7, seed=4).round() if masked else None
    assert torch.autograd.gradcheck(lambda a, b: dice(a, b, mask), maps)
    assert torch.autograd.gradcheck(lambda a, b: truth_error(a, b, mask), fields)
    assert torch.autograd.gradcheck(lambda a, b: landmarks(a, b, weight), points)


def test_dice_of_binary_maps() -> None:
    fixed, moved = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    fixed[0, 0, :2], moved[0, 0, 1:3] = 1, 1  # 8 and 8 voxels, 4 of them shared
    assert dice(fixed, moved).item() == pytest.approx(0.5)  # the second label is in neither map
    fixed[0, 1, 0, 0] = 1
    assert dice(fixed, moved).item() == pytest.approx((0.5 + 1) / 2)
    mask = torch.zeros(1, 1, 4, 4)
    mask[:, :, 1] = 1
    assert dice(fixed, moved, mask).item() == pytest.approx(0)


@pytest.mark.parametrize("shape", SHAPES)
def test_dice_is_zero_only_for_equal_maps(shape: tuple[int, ...]) -> None:
    a = noise(2, 3, *shape)
    assert dice(a, a).item() == pytest.approx(0, abs=1e-12)
    assert dice(a, 0.9 * a).item() > 1e-3
    assert dice(a, (a + 0.1).clamp(max=1)).item() > 1e-3


def test_dice_without_labels_is_zero_with_zero_gradient() -> None:
    moved = torch.zeros(1, 2, 4, 4, requires_grad=True)
    value = dice(torch.zeros(1, 2, 4, 4), moved)
    value.backward()
    assert value.item() == 0
    assert moved.grad is not None
    assert (moved.grad == 0).all()


def test_masked_voxels_and_points_have_no_influence() -> None:
    mask = torch.ones(1, 1, 4, 4)
    mask[..., 2:] = 0
    a, b = noise(1, 2, 4, 4, seed=1), noise(1, 2, 4, 4, seed=2)
    c = torch.where(mask == 0, 9 - b, b)
    for loss in (dice, truth_error):
        assert loss(a, c, mask).item() == pytest.approx(loss(a, b, mask).item())
        assert loss(a, c).item() != pytest.approx(loss(a, b).item())
    points, weight = noise(1, 3, 2), torch.tensor([[1.0, 1, 0]])
    far = points + torch.tensor([[0.0], [3], [1000]])
    assert landmarks(points, far, weight).item() == pytest.approx(3 / 2**0.5, rel=0.01)


def test_distances_are_euclidean_and_smooth_at_zero() -> None:
    u = torch.zeros(1, 3, 2, 2, 2, requires_grad=True)
    truth = torch.tensor([2.0, 3, 6]).reshape(1, 3, 1, 1, 1).expand_as(u)
    assert truth_error(u, truth).item() == pytest.approx(7, abs=0.011)
    value = truth_error(u, torch.zeros_like(u))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-8)
    assert u.grad is not None
    assert (u.grad == 0).all()
    unknown = truth_error(u, truth, torch.zeros(1, 1, 2, 2, 2))
    assert unknown.item() == 0


def test_one_hot_has_a_channel_for_each_label() -> None:
    labels = torch.tensor([[0, 3], [500, 3]], dtype=torch.int16)[None, None]
    found = one_hot(labels, (500, 3, 7))
    assert found.dtype == torch.float32
    assert found[0].tolist() == [[[0, 0], [1, 0]], [[0, 1], [0, 1]], [[0, 0], [0, 0]]]
    assert one_hot(labels, ()).shape == (1, 0, 2, 2)


def test_common_labels_are_a_deterministic_subset() -> None:
    fixed = torch.arange(40, dtype=torch.int16).reshape(1, 1, 8, 5)
    moving = (fixed * 2).to(torch.int16)
    assert common_labels(fixed, moving, 100) == tuple(range(2, 40, 2))
    few = common_labels(fixed, moving, 8)
    assert len(few) == 8
    assert set(few) <= set(range(2, 40, 2))
    assert common_labels(fixed.clone(), moving.clone(), 8) == few
    seen = set(few)
    for k in range(1, 12):
        other = fixed.clone()
        other[0, 0, 0, 0] = k
        seen |= set(common_labels(other, moving, 8))
    assert seen == set(range(2, 40, 2))
    assert common_labels(torch.zeros_like(fixed), moving, 8) == ()
