"""Images and pairs with known truth, made from label maps or from nothing."""

from __future__ import annotations

from stn3d.synth.appearance import MODALITIES, Modality
from stn3d.synth.generator import SeededGenerator
from stn3d.synth.geometry import RandomDeformation, RandomAffine, working_grid
from stn3d.synth.samples import (
    SyntheticCoordinates,
    CoordinateSettings,
    SyntheticPairs,
    PairSettings,
)
from stn3d.synth.acquisition import AcquisitionSettings
from stn3d.synth.subjects import (
    Subject,
    common_space,
    make_subject,
    random_subject,
    read_subjects,
)

__all__ = [
    "MODALITIES",
    "SyntheticCoordinates",
    "CoordinateSettings",
    "AcquisitionSettings",
    "RandomDeformation",
    "SeededGenerator",
    "Modality",
    "SyntheticPairs",
    "PairSettings",
    "RandomAffine",
    "Subject",
    "common_space",
    "make_subject",
    "random_subject",
    "read_subjects",
    "working_grid",
]
