"""The loss of a segmentation against its definition in plain PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.losses.segmentation import SegmentationLoss

CLASSES = 5


def expected(logits: Tensor, classes: Tensor, weights: tuple[float, float]) -> Tensor:
    """Cross-entropy and soft Dice by their definitions, differentiated by autograd."""
    target, p = classes[:, 0].long(), torch.softmax(logits, dim=1)
    one_hot = F.one_hot(target, CLASSES).movedim(-1, 1)
    axes = (0, *range(2, logits.ndim))
    overlap = 2 * (p * one_hot).sum(axes) / (p + one_hot).sum(axes)
    dice = overlap[one_hot.sum(axes) > 0].mean()
    return weights[0] * F.cross_entropy(logits, target) + weights[1] * (1 - dice)


def test_value_and_gradient_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stn3d.losses.segmentation._PART", 50)  # several parts
    generator = torch.Generator().manual_seed(2)
    for shape, weights in (
        ((2, 4, 3, 5), (1.0, 0.7)),
        ((1, 6, 7), (0.3, 0.0)),
        ((1, 6, 7), (0, 2)),
    ):
        batch, *size = shape
        logits = (3 * torch.randn(batch, CLASSES, *size, generator=generator)).requires_grad_()
        classes = torch.randint(0, CLASSES - 1, (batch, 1, *size), generator=generator)
        loss = SegmentationLoss(cross_entropy=weights[0], dice=weights[1])
        value, terms = loss([torch.zeros(1), logits], {"classes": classes.to(torch.uint8)})
        wanted = expected(logits, classes, weights)
        assert torch.allclose(value, wanted, atol=1e-6)
        by_terms = weights[0] * terms["cross_entropy"] + weights[1] * terms["dice_loss"]
        assert abs(by_terms - float(value.detach())) < 1e-5
        found, own = (torch.autograd.grad(3 * x, logits)[0] for x in (value, wanted))
        assert torch.allclose(found, own, atol=1e-7)


def test_bfloat16_logits_give_a_finite_gradient() -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0]]).T[None].repeat(1, 1, 4).bfloat16()
    logits = logits.requires_grad_()
    value, _ = SegmentationLoss()([logits], {"classes": torch.ones(1, 1, 4, dtype=torch.uint8)})
    value.backward()
    assert bool(value.isfinite())
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
