"""Image metrics: losses between two images; lower is better, and every loss takes a mask.

Images are ``(B, C, *shape)`` on one grid. Masks are weights ``(B or 1, 1, *shape)`` from 0 to 1;
voxels of weight 0 have no influence, not even on the windows of their neighbours.

`METRICS` is the registry. A new metric is one file with a subclass of `ImageMetric`, its object
below, and its name with a sentence for the help text in `stn3d.choices`. Other modules ask the
object and never compare names.
"""

from __future__ import annotations

from stn3d.choices import MetricName
from stn3d.losses.similarity.base import ImageMetric, LossContext
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

METRICS: dict[MetricName, ImageMetric] = {
    "mse": MeanSquaredError(),
    "ncc": Correlation(),
    "lncc": LocalCorrelation(),
    "nmi": MutualInformation(),
    "mind": SelfSimilarity(),
    "gradient": GradientFields(),
}
"""All metrics by name."""

__all__ = [
    "METRICS",
    "ImageMetric",
    "LossContext",
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
