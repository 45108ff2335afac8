"""Linear alignment within a content, for images of different contrast.

The outline of a stripped image is no guide to the whole one, and where the contrast differs, coarse
voxels of a brain show little beside its outline. Mutual information in voxels half as large
determines all parameters, from a start that is only roughly right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from stn3d.choices import AUTOMATIC
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import METRICS
from stn3d.registration.automatic import relation
from stn3d.registration.content import SharedContent
from stn3d.registration.initialisation.candidates import InitialTransform
from stn3d.registration.stages import LinearStage
from stn3d.transforms import Linear, LinearKind
from stn3d.warp import fov_overlap_fraction

_ITERATIONS = 20
# Of aligned heads 0.88 to 0.969 and 0.26 to 0.50; of a small brain in a larger one 0.971 to 0.994
# and 0.14 to 0.22.
_MOST_LOSS, _LEAST_R2 = 0.97, 0.24
_KEPT = 2  # starts that are refined by an affine transform
_FIRST: dict[LinearKind, LinearKind] = {
    "rigid": "rigid",
    "similarity": "similarity",
    "affine": "similarity",
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

    def refined(start: Linear, kind: LinearKind) -> InitialTransform:
        found = LinearStage(kind, AUTOMATIC.different, (1,), _ITERATIONS)(pair, start, _silent)
        assert isinstance(found, Linear)
        overlap = fov_overlap_fraction(pair.moving.grid, found, pair.fixed.grid)
        return InitialTransform("content", found, loss.under(found), overlap, start)

    ranked = sorted((refined(start, _FIRST[kind]) for start in starts), key=lambda each: each.loss)
    if kind == _FIRST[kind]:
        return ranked[0]
    last = [
        dataclasses.replace(refined(each.linear, kind), unrefined=each.unrefined)
        for each in ranked[:_KEPT]
    ]
    return min(last, key=lambda each: each.loss)


def _silent(*_: object) -> None:
    """Report no progress."""


def is_aligned(content: SharedContent, candidate: InitialTransform, spacing_mm: float) -> bool:
    """Whether the intensities within a content depend on each other as in one anatomy: a small
    brain within a larger one fits nowhere.

    Args:
        content: The content that both images may show.
        candidate: The result of `aligned_within`.
        spacing_mm: Spacing of the grid on which the images are compared.
    """
    if candidate.loss > _MOST_LOSS:
        return False
    found = relation(content.within, candidate.transform, spacing_mm)
    return (found.local_r2_mean or 0.0) >= _LEAST_R2
