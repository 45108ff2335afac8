"""The stages of a cascade that optimise the transform of a pair.

A stage takes the pair and the current transform, estimates a residual in fixed space and returns
``residual.then(current)``. A network can take its place.
"""

from stn3d.registration.stages.base import (
    Level,
    OptimiserStage,
    Progress,
    ProgressEvent,
    Stage,
)
from stn3d.registration.stages.deformable import DeformableStage
from stn3d.registration.stages.discrete import Comparison, DiscreteStage
from stn3d.registration.stages.linear import LinearSettings, LinearStage
from stn3d.registration.stages.residual import content_overlap_fraction, stretch_penalty

__all__ = [
    "Comparison",
    "DeformableStage",
    "DiscreteStage",
    "Level",
    "LinearSettings",
    "LinearStage",
    "OptimiserStage",
    "Progress",
    "ProgressEvent",
    "Stage",
    "content_overlap_fraction",
    "stretch_penalty",
]
