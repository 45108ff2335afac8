"""Segmentation of the head in images of any contrast: label maps, brain masks, volumes."""

from stn3d.segmentation.api import segment
from stn3d.segmentation.batch import SegmentedFile, segment_files
from stn3d.segmentation.outputs import SegmentationOutputs
from stn3d.segmentation.result import SegmentationResult

__all__ = [
    "SegmentationOutputs",
    "SegmentationResult",
    "SegmentedFile",
    "segment",
    "segment_files",
]
