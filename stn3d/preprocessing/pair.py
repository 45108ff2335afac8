"""The pair of images that a registration aligns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stn3d.length_unit import finest_common_mm, length_unit_mm
from stn3d.preprocessing.landmark_term import LandmarkTerm
from stn3d.preprocessing.prepared import PreparedImage

_CLEARLY = 1.4  # ratio from which a spacing is coarser than another one


@dataclass(frozen=True, eq=False)
class Pair:
    """The fixed and the moving image, and landmarks in the objective, if there are any."""

    fixed: PreparedImage
    moving: PreparedImage
    landmarks: LandmarkTerm | None = None

    @property
    def first(self) -> Pair:
        """The pair with its first channel group alone."""
        if self.fixed.channel_groups is None:
            return self
        return Pair(self.fixed.groups[0], self.moving.groups[0], self.landmarks)

    @property
    def swapped(self) -> Pair:
        """The pair with the roles of fixed and moving exchanged."""
        landmarks = None if self.landmarks is None else self.landmarks.swapped
        return Pair(self.moving, self.fixed, landmarks)

    def at(self, spacing_mm: float) -> Pair:
        """Both images coarsened to a spacing."""
        return Pair(self.fixed.at(spacing_mm), self.moving.at(spacing_mm), self.landmarks)

    @property
    def finest_mm(self) -> float:
        """The finest spacing that both images have; the thickness of a single slice is none."""
        return finest_common_mm(self.fixed.grid, self.moving.grid)

    @property
    def unit_mm(self) -> float:
        """The length unit of the pair, see `stn3d.length_unit`."""
        return length_unit_mm(self.fixed.grid, self.moving.grid)

    def level_spacings_mm(self, factors: Sequence[float], min_voxels: int = 8) -> list[float]:
        """Spacings of the levels of an image pyramid, coarse to fine.

        Levels that leave an image fewer than ``min_voxels`` along its shortest axis are dropped,
        except the last one, which is made as fine as that requires and the images allow. Axes of a
        few thick slices are ignored.

        Args:
            factors: Multiples of the finest spacing, coarse to fine.
            min_voxels: Lowest number of voxels along the shortest axis.
        """
        extents = [
            size
            for image in (self.fixed, self.moving)
            for size, n in zip(image.grid.size_mm, image.grid.shape, strict=True)
            if n >= min_voxels
        ]
        shortest = min(extents, default=0.0)
        *coarse, last = (factor * self.finest_mm for factor in factors)
        if extents:
            last = max(self.finest_mm, min(last, shortest / min_voxels))
        least = min_voxels * (1 - 1e-6)
        return [s for s in coarse if shortest / s >= least] + [last]

    def spacings_down_to_mm(
        self, spacings_mm: Sequence[float], fraction: float | None
    ) -> list[float]:
        """Levels of an image pyramid, followed by further ones of half the spacing each where the
        last one is clearly coarser than a fraction of the longest extent of the smaller image, and
        the images are finer.

        Args:
            spacings_mm: Spacings of the levels, coarse to fine.
            fraction: The fraction; None for the given levels alone.
        """
        extent_mm = min(max(image.grid.size_mm) for image in (self.fixed, self.moving))
        least_mm, found = max(self.finest_mm, (fraction or 1.0) * extent_mm), list(spacings_mm)
        while found[-1] > _CLEARLY * least_mm:
            found.append(max(self.finest_mm, found[-1] / 2))
        return found
