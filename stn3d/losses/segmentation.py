"""Loss of a segmentation: cross-entropy and soft Dice, with their gradient in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d.arguments import tensor_arguments

_PART = 1 << 14  # voxels that are processed together, few enough for the cache


@dataclass(frozen=True, kw_only=True)
class SegmentationLoss:
    """Weighted sum of the mean cross-entropy and of 1 - soft Dice.

    The soft Dice of a class is ``2 sum(p t) / (sum(p) + sum(t))`` over the voxels of the batch,
    with probabilities p and the target t (Milletari et al. 2016, arXiv:1606.04797). It is averaged
    over the classes that the target contains.

    Args:
        cross_entropy: Weight of the cross-entropy.
        dice: Weight of 1 - soft Dice.
    """

    cross_entropy: float = 1.0
    dice: float = 1.0

    @tensor_arguments()
    def __call__(
        self, stages: Sequence[Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """Evaluate the loss.

        Args:
            stages: Logits ``(B, classes, *shape)``; only the last stage counts.
            batch: ``classes`` ``(B, 1, *shape)``, class number of each voxel.

        Returns:
            The loss and its terms: ``cross_entropy``, ``dice_loss``.
        """
        logits = stages[-1].movedim(1, -1).flatten(0, -2)
        target = batch["classes"].flatten().long()
        weights = (self.cross_entropy, self.dice)
        loss, entropy, dice_loss = _CrossEntropyAndDice.apply(logits, target, weights)
        return loss, {"cross_entropy": float(entropy), "dice_loss": float(dice_loss)}


class _CrossEntropyAndDice(torch.autograd.Function):
    """``(loss, cross-entropy, 1 - Dice)`` of logits ``(N, classes)``.

    With the derivative of the loss by a voxel's probabilities, ``b_c`` for every class and ``a``
    more for the target t, that by its logits is ``p_c (b_c - p . b - a p_t)``, plus ``a p_t`` for
    the target. Autograd takes several times as long, half of a training step.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weights: tuple[float, float]
    ) -> tuple[Tensor, Tensor, Tensor]:
        n, classes = logits.shape
        parts = [slice(i, i + _PART) for i in range(0, n, _PART)]
        probability = logits.new_empty(n, classes, dtype=torch.float32)
        for part in parts:
            torch.softmax(logits[part].float(), dim=-1, out=probability[part])
        of_target = probability.gather(1, target[:, None])[:, 0]
        entropy = -of_target.clamp(min=1e-30).log().mean()
        counts = torch.bincount(target, minlength=classes)
        both = torch.zeros(classes, device=logits.device).index_add_(0, target, of_target)
        total = (probability.sum(dim=0) + counts).clamp(min=1e-6)
        present = (counts > 0) / (counts > 0).sum()
        dice_loss = 1 - (present * 2 * both / total).sum()
        loss = weights[0] * entropy + weights[1] * dice_loss
        if ctx.needs_input_grad[0]:
            everywhere = weights[1] * present * 2 * both / total**2
            at_target = (-weights[1] * present * 2 / total)[target] * of_target
            at_target -= weights[0] / n
            gradient = torch.empty_like(logits)
            for part in parts:
                own = at_target[part, None]
                mean = (probability[part] @ everywhere)[:, None] + own
                here = probability[part].mul_(everywhere - mean)
                gradient[part] = here.scatter_add_(1, target[part, None], own)
            ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(entropy, dice_loss)
        return loss, entropy, dice_loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, loss: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * loss, None, None
