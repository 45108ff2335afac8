"""Image metrics: losses between two images; lower is better, and every loss takes a mask.

Images are ``(B, C, *shape)`` on one grid. Masks are weights ``(B or 1, 1, *shape)`` from 0 to 1;
voxels of weight 0 have no influence, not even on the windows of their neighbours.

`METRICS` is the registry. A new metric is one file with a subclass of `ImageMetric`, and its name
and object below. Other modules ask the object and never compare names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stn3d.losses.similarity.base import ImageMetric, LossContext, Preset
from stn3d.losses.similarity.gradient import GradientFields, edge_strength, gradient
from stn3d.losses.similarity.lncc import LocalCorrelation, lncc, textured, window_radii
from stn3d.losses.similarity.mind import (
    SelfSimilarity,
    mind_channels,
    mind_descriptor,
    mind_ssc,
    mind_weight,
)
from stn3d.losses.similarity.mse import MeanSquaredError, mse
from stn3d.losses.similarity.ncc import Correlation, ncc
from stn3d.losses.similarity.nmi import MutualInformation, nmi

MetricName = Literal["mse", "ncc", "lncc", "nmi", "mind", "gradient"]

METRICS: dict[MetricName, ImageMetric] = {
    "mse": MeanSquaredError(),
    "ncc": Correlation(),
    "lncc": LocalCorrelation(),
    "nmi": MutualInformation(),
    "mind": SelfSimilarity(),
    "gradient": GradientFields(),
}
"""All metrics by name."""


@dataclass(frozen=True)
class AutomaticMetrics:
    """The metrics among which automatic selection chooses.

    Args:
        same: Metric for images of the same contrast.
        different: Metric for images of different contrasts.
        edges: Metric of the deformable stage for different contrasts in MRI.
        series: Metric for the volumes of a series.
    """

    same: MetricName = "lncc"
    different: MetricName = "nmi"
    edges: MetricName = "gradient"
    series: MetricName = "ncc"


AUTOMATIC = AutomaticMetrics()

__all__ = [
    "AUTOMATIC",
    "METRICS",
    "AutomaticMetrics",
    "ImageMetric",
    "LossContext",
    "MetricName",
    "Preset",
    "edge_strength",
    "gradient",
    "lncc",
    "mind_channels",
    "mind_descriptor",
    "mind_ssc",
    "mind_weight",
    "mse",
    "ncc",
    "nmi",
    "textured",
    "window_radii",
]
