"""The interface of an image metric, and the stage settings that several metrics share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from stn3d.choices import Preset
from stn3d.grid import Grid
from stn3d.kernels import Region
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Transform

Contrast = Literal["same", "different", "any"]
StageSettings = Mapping[Preset, Mapping[str, Mapping[str, Any]]]
"""By preset: settings of the ``linear`` and the ``deformable`` stages that a metric replaces."""

SMOOTHER_FIELD: Mapping[str, float] = {"update_sigma_vox": 4.0, "field_sigma_vox": 0.7}
"""Smoothing of the deformable stage for metrics that say little about a single voxel."""

EDGE_STAGE_SETTINGS: StageSettings = {
    "fast": {
        "deformable": {"factors": (8, 4, 2), "iterations": (20, 20, 10), **SMOOTHER_FIELD},
    },
    "default": {
        "deformable": {"factors": (8, 4, 2), "iterations": (80, 80, 40), **SMOOTHER_FIELD},
    },
    "accurate": {"deformable": {"iterations": (120, 120, 80, 25), **SMOOTHER_FIELD}},
}
"""Stage settings of the metrics that compare edges or local structure instead of intensities."""


@dataclass(frozen=True)
class LossContext:
    """What a metric knows about the two images besides their voxels.

    Args:
        spacing_mm: Voxel spacing of the grid, one value per axis.
        radius_vox: Half the edge of a window, in voxels of the finest axis.
        statistics: `ImageMetric.statistic` of the fixed and of the moving image.
        centres: Centres of the windows that contribute; None for all.
    """

    spacing_mm: tuple[float, ...]
    radius_vox: float = 2.0
    statistics: tuple[float, float] = (0.0, 0.0)
    centres: Region | None = None


class ImageMetric(ABC):
    """A loss between two images and everything that a registration must know about it.

    A subclass defines the two class variables without a default and `loss`. It overrides the
    rest only where the default does not fit.
    """

    name: ClassVar[str]
    """The name on the command line and in configs."""
    contrast: ClassVar[Contrast]
    """Contrast of the images that the metric is for: the same, different, or either."""

    needs_many_voxels: ClassVar[bool] = False
    """Whether a coarse level of a small field of view shows too little to the metric: histograms
    and edges of different contrasts."""
    loss_arrays: ClassVar[int] = 3
    """Float32 arrays of the size of the image that the loss and its gradient need at their peak."""
    convincing_loss: ClassVar[float] = 0.0
    """A loss below this value shows that the images are aligned; 0 where no loss shows it."""
    depends_on_axes: ClassVar[bool] = False
    """Whether `prepared` images can be compared only along the axes that they were prepared on.

    The moving image is then prepared on the fixed image's axes (`prepared_through`), and the linear
    stage repeats each level with the image prepared again along the axes that it found.
    """
    stage_settings: ClassVar[StageSettings] = {}
    """Settings of the stages that this metric replaces in each preset."""

    @abstractmethod
    def loss(
        self, fixed: Tensor, moved: Tensor, weight: Tensor | None, context: LossContext
    ) -> Tensor:
        """The loss; lower is better.

        Args:
            fixed: The fixed image, ``(1, C, *shape)``.
            moved: The moving image on the fixed image's grid, the same shape.
            weight: Weights of voxels, ``(1, 1, *shape)``; None where all have weight 1.
            context: Spacing, window and statistics of the whole images.

        Returns:
            A scalar, differentiable in ``moved`` and ``weight``.
        """

    def prepared(self, image: PreparedImage) -> PreparedImage:
        """The image that the loss compares; the image itself by default."""
        return image

    def prepared_through(
        self, image: PreparedImage, transform: Transform, grid: Grid
    ) -> PreparedImage:
        """The image warped to a grid and prepared along that grid's axes; its mask marks what the
        image covers.

        Args:
            image: The moving image.
            transform: Points of the grid to points of the image.
            grid: The grid of the result.
        """
        return self.prepared(image.warped(transform, grid))

    @staticmethod
    def statistic(image: Tensor, mask: Tensor | None, spacing_mm: Sequence[float]) -> float:
        """A number that describes a whole image, such as its variance; 0 where the loss needs none.

        Args:
            image: ``(1, C, *shape)``.
            mask: Weights of voxels, ``(1, 1, *shape)``; None where all have weight 1.
            spacing_mm: Voxel spacing, one value per axis.
        """
        return 0.0

    def window_radii(self, radius_vox: float, spacing_mm: Sequence[float]) -> list[int]:
        """Half the edge of a window in whole voxels along each axis; 0 for a voxelwise loss.

        Args:
            radius_vox: Half the edge of a window, in voxels of the finest axis.
            spacing_mm: Voxel spacing, one value per axis.
        """
        return [0] * len(spacing_mm)

    def support(self, fixed: PreparedImage, radii: Sequence[int]) -> Tensor | None:
        """``grid.shape`` bool: centres of the windows that contribute; None for all.

        Args:
            fixed: The fixed image.
            radii: From `window_radii`.
        """
        return None
