"""The loss of a chart: where each voxel lies in the common space, and whether it has a place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d.losses.levels import level_factor
from stn3d.losses.masked import masked_mean

COORDINATE_UNIT_MM = 100.0  # what 1 stands for in charts, and in samples for them


@dataclass(frozen=True, kw_only=True)
class ChartLoss:
    """Distance of the coordinates where there is tissue, and cross-entropy of its being there.

    Every stage is judged on its own level; the last counts 1, each before it half as much as the
    next.

    Args:
        coordinates: weight of the mean distance, in units of 100 mm.
        tissue: weight of the mean cross-entropy.
        smooth_mm: the distance d counts ``sqrt(d^2 + s^2) - s``, so that its slope fades near 0
            (Charbonnier et al. 1994, doi:10.1109/ICIP.1994.413553).
    """

    coordinates: float = 5.0
    tissue: float = 0.5
    smooth_mm: float = 2.0

    def __call__(
        self, stages: Sequence[Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss of a chart.

        Args:
            stages: charts ``(B, d + 1, *level shape)``, coarse to fine: coordinates, and a logit.
            batch: ``coordinates`` ``(B, d, *shape)`` and ``coordinates_weight`` ``(B, 1, *shape)``.

        Returns:
            The loss, and terms of the last stage by name: ``coordinates_mm``, ``tissue``.
        """
        total = stages[-1].new_zeros((), dtype=torch.float32)
        distance_mm = tissue = total
        smooth = self.smooth_mm / COORDINATE_UNIT_MM
        for i, stage in enumerate(stages):
            chart = stage.float()
            truth, weight = self.targets(chart, batch)
            squares = ((chart[:, :-1] - truth) ** 2).sum(dim=1, keepdim=True)
            place = masked_mean((squares + smooth**2).sqrt() - smooth, weight)
            tissue = F.binary_cross_entropy_with_logits(chart[:, -1:], weight)
            share = 0.5 ** (len(stages) - 1 - i)
            total = total + share * (self.coordinates * place + self.tissue * tissue)
            distance_mm = COORDINATE_UNIT_MM * masked_mean(squares.detach().sqrt(), weight)
        terms = {"coordinates_mm": float(distance_mm), "tissue": float(tissue.detach())}
        return total, terms

    @staticmethod
    def targets(chart: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A batch's coordinates and weights at a chart's voxels: means over what each covers.

        Level voxel i of factor f covers voxels ``f i ... f i + f - 1``; beyond the end is nothing.
        """
        weight = _pooled(batch["coordinates_weight"].float(), chart)
        sums = _pooled(batch["coordinates"].float() * batch["coordinates_weight"], chart)
        return sums / weight.clamp(min=1e-6), weight


def _pooled(values: Tensor, chart: Tensor) -> Tensor:
    shapes = values.shape[2:], chart.shape[2:]
    factor = level_factor(*shapes)
    sides = [
        side for n, m in reversed(list(zip(*shapes, strict=True))) for side in (0, m * factor - n)
    ]
    pool = F.avg_pool2d if values.ndim == 4 else F.avg_pool3d
    return pool(F.pad(values, sides), factor)
