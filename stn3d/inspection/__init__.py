"""What a file holds, in plain words: transforms, images, pairs of images and metrics.json."""

from stn3d.inspection.image import ImageSummary, summarise_image
from stn3d.inspection.pair import PairSummary, summarise_pair
from stn3d.inspection.registration import explain_metrics
from stn3d.inspection.transform import TransformSummary, inversion_error_mm, summarise_transform

__all__ = [
    "ImageSummary",
    "PairSummary",
    "TransformSummary",
    "explain_metrics",
    "inversion_error_mm",
    "summarise_image",
    "summarise_pair",
    "summarise_transform",
]
