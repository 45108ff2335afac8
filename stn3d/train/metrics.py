"""Validation metrics of MONAI's evaluators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from stn3d import kernels, metrics
from stn3d.arguments import plain_batch, plain_tensor
from stn3d.losses.coordinates import COORDINATE_UNIT_MM, CoordinateLoss
from stn3d.nets.blocks import resize_displacement
from stn3d.nets.working_grid import fade_at_border
from stn3d.sampler import sample, sample_displaced
from stn3d.structures import STRUCTURES, classes_of_groups
from stn3d.train.distributed import broadcast_from_first
from stn3d.train.loss import Batch, Loss


class PairMetrics:
    """Adds metrics of every pair to an evaluator's output, NaN where a metric is undefined.

    ``loss``; ``dice``, mean over the labels; ``truth_error_mm``, mean endpoint error;
    ``landmark_error_mm``; ``folding_pct`` of the voxels of the fixed image.

    Args:
        loss: As for `LossWithTerms`.
        spacing_mm: Spacing of the working grid.
        fades: Let the displacements fall to 0 at the border of the grid, as in a registration.
    """

    def __init__(self, loss: Loss, spacing_mm: float, fades: bool = False) -> None:
        self.loss, self.spacing_mm, self.fades = loss, spacing_mm, fades

    @torch.no_grad()
    def __call__(self, output: Mapping[str, Any]) -> dict[str, Any]:
        stages, batch = output["pred"], plain_batch(output["label"])
        field = resize_displacement(plain_tensor(stages[-1]).float(), batch["fixed"].shape[2:])
        field = fade_at_border(field.contiguous()) if self.fades else field
        return {
            **output,
            "loss": [float(self.loss(stages, batch)[0])],
            "dice": [_dice(*pair) for pair in _label_pairs(field, batch)],
            "truth_error_mm": self._truth_error(field, batch),
            "landmark_error_mm": self._landmark_error(field, batch),
            "folding_pct": _folding_pct(field, batch["fixed_weight"]),
        }

    def _truth_error(self, field: Tensor, batch: Batch) -> list[float]:
        if "displacement_vox" not in batch:
            return []
        distance = (field - batch["displacement_vox"]).norm(dim=1, keepdim=True)
        return [self.spacing_mm * v for v in _weighted_means(distance, batch["truth_weight"])]

    def _landmark_error(self, field: Tensor, batch: Batch) -> list[float]:
        if "fixed_points" not in batch:
            return []
        points = batch["fixed_points"].float()
        moved = points + sample(field, points).movedim(1, -1)
        distance = (moved - batch["moving_points"]).norm(dim=-1)
        return [self.spacing_mm * v for v in _weighted_means(distance, batch["points_weight"])]


class CoordinateMetrics:
    """Adds metrics of every coordinate map to an evaluator's output.

    ``loss``; ``coordinate_error_mm``, mean over tissue; ``tissue_dice`` of the tissue mask.

    Args:
        loss: The loss of the training.
    """

    def __init__(self, loss: CoordinateLoss) -> None:
        self.loss = loss

    @torch.no_grad()
    def __call__(self, output: Mapping[str, Any]) -> dict[str, Any]:
        predicted = plain_tensor(output["pred"][-1]).float()
        batch = plain_batch(output["label"])
        coordinates, weight = self.loss.targets(predicted, batch)
        distance = (predicted[:, :-1] - coordinates).norm(dim=1, keepdim=True)
        found, tissue = (predicted[:, -1:] > 0).float(), (weight > 0.5).float()
        both, total = (found * tissue).flatten(1).sum(1), (found + tissue).flatten(1).sum(1)
        errors = _weighted_means(distance, tissue)
        return {
            **output,
            "loss": [float(self.loss(output["pred"], batch)[0])],
            "coordinate_error_mm": [COORDINATE_UNIT_MM * v for v in errors],
            "tissue_dice": (2 * both / total.clamp(min=1)).tolist(),
        }


class SegmentationMetrics:
    """Adds metrics of every segmentation to an evaluator's output.

    ``loss``; ``dice``, mean over the structures of the brain and its fluid that the image shows.

    Args:
        loss: The loss of the training.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    @torch.no_grad()
    def __call__(self, output: Mapping[str, Any]) -> dict[str, Any]:
        logits = plain_tensor(output["pred"][-1])
        batch = plain_batch(output["label"])
        found = logits.argmax(dim=1, keepdim=True)
        truth = batch["classes"].long()
        counted = set(range(len(STRUCTURES))) - set(classes_of_groups("background", "head"))
        return {
            **output,
            "loss": [float(self.loss(output["pred"], batch)[0])],
            "dice": [
                _dice(t, f, sorted(counted & set(t.unique().tolist())))
                for t, f in zip(truth, found, strict=True)
            ],
        }


class MeanMetric:
    """Mean of a metric over all samples that have it, as a metric of MONAI's evaluators.

    Args:
        key: Key of the metric in the engine's output: a list of numbers, NaN for missing values.
    """

    def __init__(self, key: str) -> None:
        self.key, self.values = key, list[float]()

    def attach(self, engine: Engine, name: str) -> None:
        """Attach to an evaluator; the mean is added to its metrics under a name."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._compute, name)

    def _reset(self, engine: Engine) -> None:
        self.values = []

    def _update(self, engine: Engine) -> None:
        self.values += [v for v in engine.state.output[self.key] if not math.isnan(v)]

    def _compute(self, engine: Engine, name: str) -> None:
        mean = sum(self.values) / len(self.values) if self.values else math.nan
        engine.state.metrics[name] = broadcast_from_first(mean)


def lower_is_better(current: float, best: float) -> bool:
    """MONAI's ``metric_cmp_fn`` for losses and errors."""
    return current < best or math.isnan(best)


def _weighted_means(values: Tensor, weight: Tensor) -> list[float]:
    """Weighted mean of each sample; NaN where all weights are 0."""
    total = weight.flatten(1).sum(1)
    sums = (values * weight).flatten(1).sum(1)
    return torch.where(total > 0, sums / total, torch.nan).tolist()


def _folding_pct(field: Tensor, weight: Tensor) -> list[float]:
    folded = kernels.jacobian_determinant(field)[:, None] <= 0
    return [100 * v for v in _weighted_means(folded.float(), weight)]


def _label_pairs(field: Tensor, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Fixed and warped moving labels of each pair, if the batch has both."""
    if "fixed_labels" not in batch or "moving_labels" not in batch:
        return []
    moved = sample_displaced(batch["moving_labels"], field, "nearest")
    return list(zip(batch["fixed_labels"], moved, strict=True))


def _dice(fixed: Tensor, moved: Tensor, labels: Sequence[int] | None = None) -> float:
    values = list(metrics.dice(fixed.cpu(), moved.cpu(), labels).values())
    return sum(values) / len(values) if values else math.nan
