"""Linear alignment within a content, for images of different contrast.

The outline of a stripped image is no guide to the whole one, and where the contrast differs, coarse
voxels of a brain show little beside its outline. Mutual information in voxels half as large
determines all parameters, from a start that is only roughly right.
"""

from __future__ import annotations

from collections.abc import Sequence

from stn3d.choices import AUTOMATIC
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import METRICS
from stn3d.registration.content import SharedContent
from stn3d.registration.initialisation.candidates import InitialTransform
from stn3d.registration.stages import LinearStage
from stn3d.transforms import Linear, LinearKind
from stn3d.warp import fov_overlap_fraction

_ITERATIONS = 20
MOST_LOSS = (
    0.977  # of a correct alignment: 0.88 to 0.97; of a small brain within a larger one: 0.98
)
_KINDS: dict[LinearKind, tuple[LinearKind, ...]] = {
    "rigid": ("rigid",),
    "similarity": ("rigid", "similarity"),
    "affine": ("rigid", "similarity", "affine"),
}


def aligned_within(
    content: SharedContent, starts: Sequence[Linear], kind: LinearKind, spacing_mm: float
) -> InitialTransform:
    """The best of several rough transforms after their refinement within a content.

    Args:
        content: The content that both images show.
        starts: Rough transforms, fixed points to moving points; at least one.
        kind: Kind of the transform sought.
        spacing_mm: Spacing of the grid on which the images are compared.
    """
    pair = content.within.at(spacing_mm)
    loss = ImageLoss(pair.fixed, pair.moving, METRICS[AUTOMATIC.different])
    stages = [LinearStage(one, AUTOMATIC.different, (1,), _ITERATIONS) for one in _KINDS[kind]]

    def refined(start: Linear) -> InitialTransform:
        current = start
        for stage in stages:
            found = stage(pair, current, lambda *_: None)
            assert isinstance(found, Linear)
            current = found
        overlap = fov_overlap_fraction(pair.moving.grid, current, pair.fixed.grid)
        return InitialTransform("content", current, loss.under(current), overlap, start)

    return min((refined(start) for start in starts), key=lambda candidate: candidate.loss)
