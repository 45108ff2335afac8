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
from stn3d.registration.settings import Settings
from stn3d.registration.uncertainty_cues import Cues, coarse_cues, fine_cues, mean_within
from stn3d.registration.uncertainty_model import COARSE_MODEL, FINE_MODEL, ErrorModel
from stn3d.transforms import Affine, Transform, split_linear
from stn3d.warp import resample_image

_REMAINING_UNITS = 3.0  # two people after an affine registration have up to 2
_LEAST_UNITS = 0.1  # what a search finds in images that are alike
_LARGE_UNITS = 2.0  # length units; the fraction of larger errors is reported


@dataclass(frozen=True, eq=False)
class ErrorMap:
    """The expected registration error on a coarse grid.

    Args:
        grid: The grid, that of the fixed image at some spacing.
        expected_mm: ``(1, 1, *grid.shape)``, the mean error that is expected at each point.
        body: ``(1, 1, *grid.shape)`` bool, as in `Cues`.
        unit_mm: The length unit of the pair.
        bound_factor: The error is below this multiple of the expected error at 90 % of the points.
    """

    grid: Grid
    expected_mm: Tensor
    body: Tensor
    unit_mm: float
    bound_factor: float

    @classmethod
    def of(cls, cues: Cues, model: ErrorModel) -> ErrorMap:
        """The map from the cues of a pair."""
        expected_mm = cues.unit_mm * model.expected(cues.values)
        return cls(cues.grid, expected_mm, cues.body, cues.unit_mm, model.bound_factor)

    @property
    def mean_mm(self) -> float | None:
        """Mean over the body; None if there is none."""
        return mean_within(self.expected_mm, self.body)

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


@dataclass(frozen=True)
class SearchMeasures:
    """What a coarse discrete search around the result says about it, for the quality check.

    Args:
        expected_error_mm: Mean expected error over the body; None for a linear transform, which
            leaves differences of shape whether or not it is right.
        remaining_displacement_mm: Mean displacement over the body that the search finds.
        remaining_displacement_fraction: The same divided by what it finds without a registration;
            None where it is too small to matter.
    """

    expected_error_mm: float | None = None
    remaining_displacement_mm: float | None = None
    remaining_displacement_fraction: float | None = None


def coarse_error(pair: Pair, transform: Transform, settings: Settings) -> ErrorMap:
    """The error that a coarse search alone expects, in a part of a second.

    Args:
        pair: The prepared images.
        transform: Fixed points to moving points.
        settings: The settings, of which the discrete search is used.
    """
    return ErrorMap.of(coarse_cues(pair, transform, settings.discrete), COARSE_MODEL)


def search_measures(
    pair: Pair, transform: Transform, settings: Settings, errors: ErrorMap | None = None
) -> SearchMeasures:
    """The measures of the quality check that rest on a coarse search around the result.

    Args:
        pair: The prepared images.
        transform: Fixed points to moving points.
        settings: The settings, of which the discrete search is used.
        errors: The map, if there is one; else the expected error is a coarser estimate.
    """
    cues = coarse_cues(pair, transform, settings.discrete)
    field, _ = split_linear(transform)
    expected_mm = None
    if field is not None:
        expected_mm = (errors or ErrorMap.of(cues, COARSE_MODEL)).mean_mm
    remaining = cues.mean("residual")
    if remaining is None:
        return SearchMeasures(expected_mm)
    fraction = None
    if remaining > _REMAINING_UNITS:
        identity = Affine.identity(pair.fixed.grid.ndim)
        before = coarse_cues(pair, identity, settings.discrete).mean("residual")
        fraction = None if before is None else remaining / max(before, _LEAST_UNITS)
    return SearchMeasures(expected_mm, remaining * pair.unit_mm, fraction)


def error_map(pair: Pair, transform: Transform, settings: Settings) -> ErrorMap:
    """The expected error from all cues.

    Args:
        pair: The prepared images.
        transform: Fixed points to moving points.
        settings: The settings, of which the discrete search and the deformable stage are used.
    """
    cues = fine_cues(pair, transform, settings.discrete, settings.deformable)
    return ErrorMap.of(cues, FINE_MODEL)


def _quantile(values: Tensor, fraction: float) -> float | None:
    """None of no values."""
    if not len(values):
        return None
    return float(values.sort().values[math.ceil(fraction * len(values)) - 1])


def _fraction(chosen: Tensor) -> float | None:
    """None of no values."""
    return float(chosen.double().mean()) if len(chosen) else None
