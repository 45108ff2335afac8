"""A pair of images with the data that metrics need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from stn3d.arguments import TensorLike, points_tensor
from stn3d.io import (
    Image,
    ImageSource,
    TransformSource,
    as_transform,
    read_image,
    read_labels,
    read_mask,
)
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

    @classmethod
    def of(
        cls,
        fixed: ImageSource,
        moving: ImageSource,
        *,
        fixed_labels: ImageSource | None = None,
        moving_labels: ImageSource | None = None,
        fixed_points_mm: TensorLike | None = None,
        moving_points_mm: TensorLike | None = None,
        fixed_mask: ImageSource | None = None,
        true_transform: TransformSource | None = None,
    ) -> EvaluationCase:
        """A case of any image and transform sources, see `stn3d.io.read_image`.

        Raises:
            InputError: an image, label map, mask, set of points or transform cannot be used.
        """
        return cls(
            read_image(fixed, "fixed"),
            read_image(moving, "moving"),
            None if fixed_labels is None else read_labels(fixed_labels, "fixed"),
            None if moving_labels is None else read_labels(moving_labels, "moving"),
            None if fixed_points_mm is None else points_tensor(fixed_points_mm),
            None if moving_points_mm is None else points_tensor(moving_points_mm),
            None if fixed_mask is None else read_mask(fixed_mask, "fixed"),
            None if true_transform is None else as_transform(true_transform),
        )

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
