"""What MONAI's engines need to know of registration: batches, loss with its terms, figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from stn3d import kernels, metrics
from stn3d.losses.coordinates import COORDINATE_UNIT_MM
from stn3d.nets.blocks import resize_displacement
from stn3d.sampler import sample, sample_displaced
from stn3d.train.distributed import broadcast_from_first

Batch = Mapping[str, Tensor]
Stages = tuple[Tensor, ...]
Loss = Callable[[Stages, Batch], tuple[Tensor, dict[str, float]]]


def prepare_pair_batch(
    batch: Batch, device: torch.device, non_blocking: bool = False, **_: Any
) -> tuple[Tensor, Batch]:
    """MONAI's ``prepare_batch`` for pairs: both images' channels, and all else as the target."""
    moved = _on(batch, device, non_blocking)
    return torch.cat([moved["fixed"], moved["moving"]], dim=1), moved


def prepare_coordinate_batch(
    batch: Batch, device: torch.device, non_blocking: bool = False, **_: Any
) -> tuple[Tensor, Batch]:
    """MONAI's ``prepare_batch`` for charts: the image, and all else as the target."""
    moved = _on(batch, device, non_blocking)
    return moved["image"], moved


def _on(batch: Batch, device: torch.device, non_blocking: bool) -> Batch:
    return {
        key: value.to(device, non_blocking=non_blocking) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }


class LossWithTerms:
    """A loss for MONAI's trainer that remembers its terms for the logs.

    Args:
        loss: of stages and batch, giving a scalar and its terms by name.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss, self.terms = loss, dict[str, float]()

    def __call__(self, stages: Stages, batch: Batch) -> Tensor:
        loss, self.terms = self.loss(stages, batch)
        return loss

    def log_values(self, output: Mapping[str, Any]) -> dict[str, float]:
        """The loss of a trainer's output and the terms that it came from."""
        return {"loss": float(output["loss"].detach()), **self.terms}


class PairMetrics:
    """Adds figures of every pair to an evaluator's output, NaN where a pair cannot tell one.

    ``loss``; ``dice``, the mean over labels; ``truth_error_mm``; ``landmark_error_mm``;
    ``folding_pct`` of the voxels where the fixed image is.

    Args:
        loss: as for `LossWithTerms`.
        spacing_mm: of the working grid.
    """

    def __init__(self, loss: Loss, spacing_mm: float) -> None:
        self.loss, self.spacing_mm = loss, spacing_mm

    @torch.no_grad()
    def __call__(self, output: Mapping[str, Any]) -> dict[str, Any]:
        stages, batch = output["pred"], output["label"]
        field = resize_displacement(stages[-1].float(), batch["fixed"].shape[2:])
        return {
            **output,
            "loss": [float(self.loss(stages, batch)[0])],
            "dice": [_dice(*pair) for pair in _label_pairs(field, batch)],
            "truth_error_mm": self._truth(field, batch),
            "landmark_error_mm": self._landmarks(field, batch),
            "folding_pct": _folding_pct(field, batch["fixed_weight"]),
        }

    def _truth(self, field: Tensor, batch: Batch) -> list[float]:
        if "displacement_vox" not in batch:
            return []
        distance = (field - batch["displacement_vox"]).norm(dim=1, keepdim=True)
        return [self.spacing_mm * v for v in _means(distance, batch["truth_weight"])]

    def _landmarks(self, field: Tensor, batch: Batch) -> list[float]:
        if "fixed_points" not in batch:
            return []
        points = batch["fixed_points"].float()
        moved = points + sample(field, points).movedim(1, -1)
        distance = (moved - batch["moving_points"]).norm(dim=-1)
        return [self.spacing_mm * v for v in _means(distance, batch["points_weight"])]


class CoordinateMetrics:
    """Adds figures of every chart to an evaluator's output.

    ``loss``; ``coordinate_error_mm`` over tissue; ``tissue_dice`` of where there is any.

    Args:
        loss: as for `LossWithTerms`; its ``targets`` bring a batch to the chart's shape.
    """

    def __init__(self, loss: Any) -> None:
        self.loss = loss

    @torch.no_grad()
    def __call__(self, output: Mapping[str, Any]) -> dict[str, Any]:
        chart, batch = output["pred"][-1].float(), output["label"]
        coordinates, weight = self.loss.targets(chart, batch)
        distance = (chart[:, :-1] - coordinates).norm(dim=1, keepdim=True)
        seen, there = (chart[:, -1:] > 0).float(), (weight > 0.5).float()
        both, either = (seen * there).flatten(1).sum(1), (seen + there).flatten(1).sum(1)
        return {
            **output,
            "loss": [float(self.loss(output["pred"], batch)[0])],
            "coordinate_error_mm": [COORDINATE_UNIT_MM * v for v in _means(distance, there)],
            "tissue_dice": (2 * both / either.clamp(min=1)).tolist(),
        }


class MeanMetric:
    """A metric of MONAI's evaluators: the mean of one figure over all samples that have it.

    Args:
        key: of the figure in the engine's output: a list of numbers, NaN for those that have none.
    """

    def __init__(self, key: str) -> None:
        self.key, self.values = key, list[float]()

    def attach(self, engine: Engine, name: str) -> None:
        """Follow an evaluator and put the mean into its metrics."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._tell, name)

    def _reset(self, engine: Engine) -> None:
        self.values = []

    def _add(self, engine: Engine) -> None:
        self.values += [v for v in engine.state.output[self.key] if not math.isnan(v)]

    def _tell(self, engine: Engine, name: str) -> None:
        mean = sum(self.values) / len(self.values) if self.values else math.nan
        engine.state.metrics[name] = broadcast_from_first(mean)


def lower_is_better(now: float, best: float) -> bool:
    """MONAI's ``metric_cmp_fn`` for losses and errors."""
    return now < best or math.isnan(best)


def _means(values: Tensor, weight: Tensor) -> list[float]:
    """Weighted means of each sample; NaN where nothing has weight."""
    total = weight.flatten(1).sum(1)
    sums = (values * weight).flatten(1).sum(1)
    return torch.where(total > 0, sums / total, torch.nan).tolist()


def _folding_pct(field: Tensor, weight: Tensor) -> list[float]:
    folded = kernels.jacobian_determinant(field)[:, None] <= 0
    return [100 * v for v in _means(folded.float(), weight)]


def _label_pairs(field: Tensor, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Fixed and moved labels of each pair that has both."""
    if "fixed_labels" not in batch or "moving_labels" not in batch:
        return []
    moved = sample_displaced(batch["moving_labels"], field, "nearest")
    return list(zip(batch["fixed_labels"], moved, strict=True))


def _dice(fixed: Tensor, moved: Tensor) -> float:
    values = list(metrics.dice(fixed.cpu(), moved.cpu()).values())
    return sum(values) / len(values) if values else math.nan
