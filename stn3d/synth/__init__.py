"""Synthetic training data with ground truth, from label maps or random shapes."""

from __future__ import annotations

from stn3d.grid import centred_grid
from stn3d.synth.acquisition import AcquisitionSettings
from stn3d.synth.appearance import MODALITIES, Modality
from stn3d.synth.generator import SeededGenerator
from stn3d.synth.geometry import RandomAffine, RandomDeformation
from stn3d.synth.samples import (
    CoordinateSettings,
    PairSettings,
    SyntheticCoordinates,
    SyntheticPairs,
)
from stn3d.synth.segmentations import SegmentationSettings, SyntheticSegmentations
from stn3d.synth.subjects import (
    Subject,
    common_space,
    make_subject,
    random_subject,
    read_subjects,
)

__all__ = [
    "MODALITIES",
    "AcquisitionSettings",
    "CoordinateSettings",
    "Modality",
    "PairSettings",
    "RandomAffine",
    "RandomDeformation",
    "SeededGenerator",
    "SegmentationSettings",
    "Subject",
    "SyntheticCoordinates",
    "SyntheticPairs",
    "SyntheticSegmentations",
    "centred_grid",
    "common_space",
    "make_subject",
    "random_subject",
    "read_subjects",
]
