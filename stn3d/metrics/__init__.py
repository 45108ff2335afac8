"""Metrics of a registration; units are part of the names, definitions are in docs/metrics.md.

Labels, masks and images are arrays or tensors of the grid's shape; leading axes of length 1 are
allowed. Points are world RAS+ mm. `InputError` is raised for arrays that do not fit the grid or
each other, and for labels that are not whole numbers from 0 upward.
"""

from stn3d.metrics.arrays import Array
from stn3d.metrics.consistency import inverse_consistency_error_mm, true_error_mm
from stn3d.metrics.images import image_metrics
from stn3d.metrics.jacobian import Determinants, Protocol, jacobian_metrics
from stn3d.metrics.labels import scored_labels
from stn3d.metrics.landmarks import tre_mm
from stn3d.metrics.overlap import dice
from stn3d.metrics.region import EvaluationRegion, eroded, foreground
from stn3d.metrics.surface import hd95_mm

__all__ = [
    "Array",
    "Determinants",
    "EvaluationRegion",
    "Protocol",
    "dice",
    "eroded",
    "foreground",
    "hd95_mm",
    "image_metrics",
    "inverse_consistency_error_mm",
    "jacobian_metrics",
    "scored_labels",
    "tre_mm",
    "true_error_mm",
]
