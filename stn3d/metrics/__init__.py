"""Metrics of a registration; units are part of the names, definitions are in docs/metrics.md.

Labels, masks and images are arrays or tensors of the grid's shape; leading axes of length 1 are
allowed. Points are world RAS+ mm. `InputError` is raised for arrays that do not fit the grid or
each other, and for labels that are not whole numbers from 0 upward.
"""

from stn3d.metrics.arrays import Array
from stn3d.metrics.consistency import inverse_consistency_error_mm, true_error_mm
from stn3d.metrics.images import image_metrics
from stn3d.metrics.jacobian import Determinants, jacobian_metrics, ndv_metrics
from stn3d.metrics.labels import LabelSelection, select_labels
from stn3d.metrics.landmarks import landmark_robustness, tre_mm
from stn3d.metrics.overlap import dice
from stn3d.metrics.region import EvaluationRegion, eroded, foreground
from stn3d.metrics.surface import SurfaceDistances, hd95_vox, surface_dice, surface_distances

__all__ = [
    "Array",
    "Determinants",
    "EvaluationRegion",
    "LabelSelection",
    "SurfaceDistances",
    "dice",
    "eroded",
    "foreground",
    "hd95_vox",
    "image_metrics",
    "inverse_consistency_error_mm",
    "jacobian_metrics",
    "landmark_robustness",
    "ndv_metrics",
    "select_labels",
    "surface_dice",
    "surface_distances",
    "tre_mm",
    "true_error_mm",
]
