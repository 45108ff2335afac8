"""A pair of images with the data that metrics need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from stn3d.arguments import points_tensor
from stn3d.io import Image
from stn3d.metrics import EvaluationRegion, foreground
from stn3d.transforms import Transform


@dataclass(frozen=True, eq=False)
class EvaluationCase:
    """A pair of images with the data that metrics need.

    Args:
        fixed: the fixed image.
        moving: the moving image.
        fixed_labels: label map on the fixed image's grid.
        moving_labels: label map on the moving image's grid.
        fixed_points_mm: ``(N, d)`` landmarks in the fixed image, world RAS+ mm.
        moving_points_mm: ``(N, d)`` the same landmarks in the moving image.
        fixed_mask: mask on the fixed image's grid in which metrics are computed. Default: the
            foreground of the fixed image.
        true_transform: the known true transform, fixed points to moving points.
    """

    fixed: Image
    moving: Image
    fixed_labels: Image | None = None
    moving_labels: Image | None = None
    fixed_points_mm: Tensor | None = None
    moving_points_mm: Tensor | None = None
    fixed_mask: Image | None = None
    true_transform: Transform | None = None

    def __post_init__(self) -> None:
        for name, points in (
            ("fixed_points_mm", self.fixed_points_mm),
            ("moving_points_mm", self.moving_points_mm),
        ):
            if points is not None:
                object.__setattr__(self, name, points_tensor(points))

    @cached_property
    def region(self) -> EvaluationRegion:
        """The fixed mask if there is one, else the foreground of the fixed image.

        Labels and landmarks do not change the region.
        """
        if self.fixed_mask is not None:
            return EvaluationRegion("mask", self.fixed_mask.values[0, 0] > 0)
        return EvaluationRegion("foreground", foreground(self.fixed.values))
