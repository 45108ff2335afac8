"""The instance localisers: stages of a cascade that find their transform on the very pair.

Every stage sees the pair as the earlier stages left it and finds a residual in fixed space; the
transform so far becomes ``residual.then(so_far)``. A stage is a function of (pair, so far), so that
a network can stand in the same place.
"""

from stn3d.registration.stages.base import Progress, Stage
from stn3d.registration.stages.deformable import DenseStage
from stn3d.registration.stages.linear import LinearStage, stretch_penalty

__all__ = ["DenseStage", "LinearStage", "Progress", "Stage", "stretch_penalty"]
