"""What a file holds, in plain words: transforms, images, pairs, metrics.json, volumes.json."""

from stn3d.inspection.image import ImageSummary, summarise_image
from stn3d.inspection.pair import PairSummary, summarise_pair
from stn3d.inspection.registration import explain_metrics
from stn3d.inspection.segmentation import explain_volumes, is_segmentation
from stn3d.inspection.transform import TransformSummary, inversion_error_mm, summarise_transform

__all__ = [
    "ImageSummary",
    "PairSummary",
    "TransformSummary",
    "explain_metrics",
    "explain_volumes",
    "inversion_error_mm",
    "is_segmentation",
    "summarise_image",
    "summarise_pair",
    "summarise_transform",
]
