"""The instance estimators: stages of a cascade that find their transform on the very pair.

Every stage sees the pair as the earlier stages left it and finds a residual in fixed space; the
current transform becomes ``residual.then(current)``. A stage is a function of (pair, current
transform), so that a network can take its place.
"""

from stn3d.registration.stages.base import Level, Progress, ProgressEvent, Stage
from stn3d.registration.stages.deformable import DeformableStage
from stn3d.registration.stages.linear import LinearStage, stretch_penalty

__all__ = [
    "DeformableStage",
    "Level",
    "LinearStage",
    "Progress",
    "ProgressEvent",
    "Stage",
    "stretch_penalty",
]
