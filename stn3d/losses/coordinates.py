"""Loss of coordinate maps: error of the coordinates and cross-entropy of the tissue logit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.losses.levels import level_factor
from stn3d.losses.masked import masked_mean

COORDINATE_UNIT_MM = 100.0  # length of a coordinate of 1 in coordinate maps


@dataclass(frozen=True, kw_only=True)
class CoordinateLoss:
    """Coordinate error within tissue and cross-entropy of the tissue logit, over all stages.

    Each stage is evaluated on its own level. The last stage has weight 1, each stage before it half
    the weight of the next.

    Args:
        coordinates: Weight of the mean distance, in units of 100 mm.
        tissue: Weight of the mean cross-entropy.
        smooth_mm: Length s of the Charbonnier penalty ``sqrt(d^2 + s^2) - s`` of a distance d
            (Charbonnier et al. 1994, doi:10.1109/ICIP.1994.413553).
    """

    coordinates: float = 5.0
    tissue: float = 0.5
    smooth_mm: float = 2.0

    @tensor_arguments()
    def __call__(
        self, stages: Sequence[Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """Evaluate the loss.

        Args:
            stages: Coordinate maps ``(B, d + 1, *level shape)``, coarse to fine: coordinates, then
                the tissue logit.
            batch: ``coordinates`` ``(B, d, *shape)`` and ``coordinates_weight`` ``(B, 1, *shape)``.

        Returns:
            The loss, and the terms of the last stage: ``coordinates_mm``, ``tissue``.
        """
        total = stages[-1].new_zeros((), dtype=torch.float32)
        distance_mm = tissue = total
        smooth = self.smooth_mm / COORDINATE_UNIT_MM
        for i, stage in enumerate(stages):
            predicted = stage.float()
            truth, weight = self.targets(predicted, batch)
            squares = ((predicted[:, :-1] - truth) ** 2).sum(dim=1, keepdim=True)
            distance = masked_mean((squares + smooth**2).sqrt() - smooth, weight)
            tissue = F.binary_cross_entropy_with_logits(predicted[:, -1:], weight)
            stage_weight = 0.5 ** (len(stages) - 1 - i)
            total = total + stage_weight * (self.coordinates * distance + self.tissue * tissue)
            distance_mm = COORDINATE_UNIT_MM * masked_mean(squares.detach().sqrt(), weight)
        terms = {"coordinates_mm": float(distance_mm), "tissue": float(tissue.detach())}
        return total, terms

    @staticmethod
    @tensor_arguments()
    def targets(predicted: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A batch's coordinates and tissue fractions at the resolution of a coordinate map.

        Level voxel i of factor f covers voxels ``f i`` to ``f i + f - 1``; the level is zero beyond
        the end of the grid.

        Args:
            predicted: ``(B, d + 1, *level shape)``; only its shape is used.
            batch: As for the loss.

        Returns:
            Mean coordinates ``(B, d, *level shape)`` and fractions ``(B, 1, *level shape)``.
        """
        weight = _pooled(batch["coordinates_weight"].float(), predicted)
        sums = _pooled(batch["coordinates"].float() * batch["coordinates_weight"], predicted)
        return sums / weight.clamp(min=1e-6), weight


def _pooled(values: Tensor, level: Tensor) -> Tensor:
    """Means of a volume over the voxels of a level."""
    shapes = values.shape[2:], level.shape[2:]
    factor = level_factor(*shapes)
    padding = [
        side for n, m in reversed(list(zip(*shapes, strict=True))) for side in (0, m * factor - n)
    ]
    pool = F.avg_pool2d if values.ndim == 4 else F.avg_pool3d
    return pool(F.pad(values, padding), factor)
