"""Batches and the loss as MONAI's trainer needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from stn3d.arguments import plain_batch

Batch = Mapping[str, Tensor]
StageOutputs = tuple[Tensor, ...]
Loss = Callable[[StageOutputs, Batch], tuple[Tensor, dict[str, float]]]


def prepare_pair_batch(
    batch: Batch, device: torch.device, non_blocking: bool = False, **_: Any
) -> tuple[Tensor, Batch]:
    """MONAI's ``prepare_batch`` for pairs: concatenated images as input, the batch as target."""
    on_device = _to_device(batch, device, non_blocking)
    return torch.cat([on_device["fixed"], on_device["moving"]], dim=1), on_device


def prepare_image_batch(
    batch: Batch, device: torch.device, non_blocking: bool = False, **_: Any
) -> tuple[Tensor, Batch]:
    """MONAI's ``prepare_batch`` for single images: the image as input, the batch as target."""
    on_device = _to_device(batch, device, non_blocking)
    return on_device["image"], on_device


def _to_device(batch: Batch, device: torch.device, non_blocking: bool) -> Batch:
    return {
        key: value.to(device, non_blocking=non_blocking) if isinstance(value, Tensor) else value
        for key, value in plain_batch(batch).items()
    }


class LossWithTerms:
    """A loss for MONAI's trainer that keeps its terms for the logs.

    Args:
        loss: Maps stages and batch to a scalar and its terms by name.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss, self.terms = loss, dict[str, float]()

    def __call__(self, stages: StageOutputs, batch: Batch) -> Tensor:
        loss, self.terms = self.loss(stages, batch)
        return loss

    def log_values(self, output: Mapping[str, Any]) -> dict[str, float]:
        """The loss of a trainer's output and its terms."""
        return {"loss": float(output["loss"].detach()), **self.terms}
