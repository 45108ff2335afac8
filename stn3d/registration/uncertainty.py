"""How far a registration can be trusted at every point: the expected error in mm.

Convention: the error at a point x of the fixed image is the distance of transform(x) from the point
of the moving image that truly corresponds, in mm of the moving space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from stn3d.grid import Grid
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.reductions import voxel_sum
from stn3d.registration.outline import tissue
from stn3d.registration.quality_content import BACKGROUND
from stn3d.registration.settings import Settings
from stn3d.registration.uncertainty_cues import Cues, coarse_cues, fine_cues
from stn3d.registration.uncertainty_model import COARSE_MODEL, FINE_MODEL, ErrorModel
from stn3d.transforms import Transform, split_linear
from stn3d.warp import resample_image

_AIR = 0.15  # of the intensity range; the median of a face in air is below, also with strong noise
_SEEN = 0.5  # weight from which both images show a point
_LARGE_UNITS = 2.0  # length units; the fraction of larger errors is reported


@dataclass(frozen=True, eq=False)
class ErrorMap:
    """The expected registration error on a coarse grid.

    Args:
        grid: The grid, that of the fixed image at some spacing.
        expected_mm: ``(1, 1, *grid.shape)``, the mean error that is expected at each point.
        body: ``(1, 1, *grid.shape)`` bool, what the fixed image shows, with all that it encloses,
            and the moving image shows too.
        unit_mm: The length unit of the pair.
        bound_factor: The error is below this multiple of the expected error at 90 % of the points.
    """

    grid: Grid
    expected_mm: Tensor
    body: Tensor
    unit_mm: float
    bound_factor: float

    @classmethod
    def of(cls, pair: Pair, cues: Cues, model: ErrorModel) -> ErrorMap:
        """The map from the cues of a pair."""
        level = pair.first.fixed.at(max(cues.grid.spacing_mm))
        around = resample_image(shown(level), level.grid, cues.grid)
        body = (around > 0.5) & (cues.seen > _SEEN)
        expected_mm = cues.unit_mm * model.expected(cues.values)
        return cls(cues.grid, expected_mm, body, cues.unit_mm, model.bound_factor)

    @property
    def mean_mm(self) -> float | None:
        """Mean over the body; None if there is none."""
        weight = self.body.to(self.expected_mm)
        total = float(voxel_sum(weight))
        return float(voxel_sum(weight * self.expected_mm)) / total if total else None

    def on(self, grid: Grid) -> Tensor:
        """The map on another grid, ``(1, 1, *grid.shape)`` float32; 0 where nothing is known.

        Args:
            grid: A grid in the space of the fixed image.
        """
        reach = F.max_pool3d if self.grid.ndim == 3 else F.max_pool2d
        body = reach(self.body.to(self.expected_mm), 3, stride=1, padding=1)
        logarithm = resample_image(self.expected_mm.log(), self.grid, grid)
        known = resample_image(body, self.grid, grid) > 0.5
        return (logarithm.exp() * known).float().cpu()

    def summary(self) -> dict[str, Any]:
        """The content of ``uncertainty`` in metrics.json."""
        values = self.expected_mm[self.body]
        limit_mm = _LARGE_UNITS * self.unit_mm
        median, p90, p95 = (_quantile(values, q) for q in (0.5, 0.9, 0.95))
        return {
            "mean_mm": self.mean_mm,
            "median_mm": median,
            "p90_mm": p90,
            "p95_mm": p95,
            "large_mm": limit_mm,
            "large_fraction": _fraction(values > limit_mm),
            "bound_90_factor": self.bound_factor,
        }


def shown(image: PreparedImage) -> Tensor:
    """``(1, 1, *shape)``, 1 in the body: in tissue and what it encloses; where no face of the image
    lies in air, all that is not dark.

    Args:
        image: The prepared image.
    """
    values = image.image[0, 0]
    faces = (values.select(axis, end) for axis in range(values.ndim) for end in (0, -1))
    if min(float(face.median()) for face in faces) < _AIR:
        return tissue(image)
    return (image.image[:, :1] > BACKGROUND).to(image.image)


def coarse_error(pair: Pair, transform: Transform, settings: Settings) -> ErrorMap:
    """The error that a coarse search alone expects: for the quality check, in a part of a second.

    Args:
        pair: The prepared images.
        transform: Fixed points to moving points.
        settings: The settings, of which the discrete search is used.
    """
    return ErrorMap.of(pair, coarse_cues(pair, transform, settings.discrete), COARSE_MODEL)


def mean_deformation_error_mm(
    pair: Pair, transform: Transform, settings: Settings, errors: ErrorMap | None = None
) -> float | None:
    """The mean expected error of a deformable result over the body; None for a linear transform,
    which leaves differences of shape whether or not it is right.

    Args:
        pair: The prepared images.
        transform: Fixed points to moving points.
        settings: The settings.
        errors: The map, if there is one; else a coarse one is made.
    """
    field, _ = split_linear(transform)
    if field is None:
        return None
    return (errors or coarse_error(pair, transform, settings)).mean_mm


def error_map(pair: Pair, transform: Transform, settings: Settings) -> ErrorMap:
    """The expected error from all cues.

    Args:
        pair: The prepared images.
        transform: Fixed points to moving points.
        settings: The settings, of which the discrete search and the deformable stage are used.
    """
    cues = fine_cues(pair, transform, settings.discrete, settings.deformable)
    return ErrorMap.of(pair, cues, FINE_MODEL)


def _quantile(values: Tensor, fraction: float) -> float | None:
    """None of no values."""
    if not len(values):
        return None
    return float(values.sort().values[math.ceil(fraction * len(values)) - 1])


def _fraction(chosen: Tensor) -> float | None:
    """None of no values."""
    return float(chosen.double().mean()) if len(chosen) else None
