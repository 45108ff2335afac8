"""Whether the images fit as well with left and right exchanged.

A wrong header or conversion can mirror an image, and a mirrored head looks like a head. As AFNI's
``align_epi_anat.py -check_flip`` does (Glen et al. 2020, doi:10.3389/fninf.2020.00018), the quality
check registers the mirrored image too and compares the losses. It never changes the result.

Two people differ more than left and right of one of them do. So both ways are registered with equal
freedom, whatever the kind of the result, which was fitted to one of them; and they are compared on
a finer level than they are registered on, which shows more of the differences between the sides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from stn3d.choices import LinearKind, MetricName
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.pair import Pair
from stn3d.registration.stages import LinearStage
from stn3d.transforms import Linear

_ITERATIONS, _TOLERANCE = 25, 1e-4
_SAME_PLANE = math.cos(math.radians(5))
_FINER = 2  # the level of the comparison, in relation to that of the registrations


@dataclass(frozen=True, eq=False)
class MirrorComparison:
    """How the result is compared with the mirrored image.

    Args:
        pair: The prepared images.
        spacing_mm: Spacing of the level where both ways are registered.
        kinds: Kinds of the registrations, one after the other; few slices determine no affine one.
        metric: Metric of the linear part.
    """

    pair: Pair
    spacing_mm: float
    kinds: tuple[LinearKind, ...]
    metric: MetricName

    def advantage(self, linear: Linear, points_mm: Tensor) -> float:
        """The loss of the result minus that with the left and right of one image exchanged.

        The mirror plane is perpendicular to the world's left-right axis, through the centre of what
        the images share; that of the other image is tried too where the result rotates it.

        Args:
            linear: Fixed points to moving points.
            points_mm: ``(N, d)`` foreground points of the fixed image, inside the moving one.

        Returns:
            Above 0 where the mirrored image fits better.
        """
        centre_mm = points_mm.mean(dim=0)
        moving_x_mm = float(linear(centre_mm[None])[0, 0])
        mirrors = [lambda pair: Pair(pair.fixed, pair.moving.mirrored(moving_x_mm))]
        across = linear.matrix[:-1, 0]
        if float(across[0]) < _SAME_PLANE * float(across.norm()):
            x_mm = float(centre_mm[0])
            mirrors.append(lambda pair: Pair(pair.fixed.mirrored(x_mm), pair.moving))
        own = self._loss(linear, lambda pair: Pair(pair.fixed, pair.moving))
        return own - min(self._loss(linear, mirror) for mirror in mirrors)

    def _loss(self, found: Linear, changed: Callable[[Pair], Pair]) -> float:
        """The loss after further registration on the level, measured on a finer one.

        Args:
            found: Fixed points to moving points.
            changed: What is compared: the images of a level, or with one of them mirrored.
        """
        coarse = changed(self.pair.at(self.spacing_mm))
        for kind in self.kinds:
            stage = LinearStage(
                kind, self.metric, factors=(1,), iterations=_ITERATIONS, tolerance=_TOLERANCE
            )
            improved = stage(coarse, found, lambda *_: None)
            assert isinstance(improved, Linear)
            found = improved
        finer_mm = max(self.spacing_mm / _FINER, self.pair.finest_mm)
        return image_loss_of(changed(self.pair.at(finer_mm)), self.metric)(found)


def image_loss_of(pair: Pair, metric: MetricName) -> Callable[[Linear], float]:
    """The loss of a pair as a function of a linear transform, fixed to moving points."""
    return ImageLoss(pair.fixed, pair.moving, METRICS[metric]).under
