"""Images and pairs with known truth, made from label maps or from nothing."""

from __future__ import annotations

from stn3d.synth.contrast import KINDS, Kind
from stn3d.synth.draws import Draws
from stn3d.synth.geometry import Deformation, Pose, working_grid
from stn3d.synth.samples import (
    ChartSamples,
    ChartSettings,
    PairSamples,
    PairSettings,
)
from stn3d.synth.scanner import Contrast
from stn3d.synth.subjects import (
    Subject,
    common_space,
    make_subject,
    random_subject,
    read_subjects,
)

__all__ = [
    "KINDS",
    "ChartSamples",
    "ChartSettings",
    "Contrast",
    "Deformation",
    "Draws",
    "Kind",
    "PairSamples",
    "PairSettings",
    "Pose",
    "Subject",
    "common_space",
    "make_subject",
    "random_subject",
    "read_subjects",
    "working_grid",
]
