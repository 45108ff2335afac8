"""The pair of images that a registration aligns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stn3d.grid import Grid
from stn3d.length_unit import finest_common_mm, length_unit_mm
from stn3d.preprocessing.landmark_term import LandmarkTerm
from stn3d.preprocessing.prepared import PreparedImage


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
    def grids(self) -> tuple[Grid, Grid]:
        """Grids of the fixed and of the moving image."""
        return self.fixed.grid, self.moving.grid

    @property
    def finest_mm(self) -> float:
        """The finest spacing that both images have; the thickness of a single slice is none."""
        return finest_common_mm(self.fixed.grid, self.moving.grid)

    @property
    def unit_mm(self) -> float:
        """The length unit of the pair, see `stn3d.length_unit`."""
        return length_unit_mm(self.fixed.grid, self.moving.grid)

    def level_step_mm(self, in_units: bool) -> float:
        """The length that the factors of levels multiply: the finest spacing, or the length unit
        where that is asked for and smaller.

        A small field of view then has as many voxels on each level as a head of 1 mm voxels, as far
        as its own voxels allow.
        """
        return min(self.finest_mm, self.unit_mm) if in_units else self.finest_mm

    def level_spacings_mm(
        self, factors: Sequence[float], in_units: bool = False, min_voxels: int = 8
    ) -> list[float]:
        """Spacings of the levels of an image pyramid, coarse to fine.

        Levels that leave an image fewer than ``min_voxels`` along its shortest axis are dropped,
        except the last one, which is made as fine as that requires and the images allow. Axes of a
        few thick slices are ignored.

        Args:
            factors: Multiples of `level_step_mm`, coarse to fine; no level is finer than the finest
                spacing.
            in_units: See `level_step_mm`.
            min_voxels: Lowest number of voxels along the shortest axis.
        """
        step_mm = self.level_step_mm(in_units)
        extents = [
            size
            for image in (self.fixed, self.moving)
            for size, n in zip(image.grid.size_mm, image.grid.shape, strict=True)
            if n >= min_voxels
        ]
        shortest = min(extents, default=0.0)
        *coarse, last = (max(factor * step_mm, self.finest_mm) for factor in factors)
        if extents:
            last = max(self.finest_mm, min(last, shortest / min_voxels))
        least = min_voxels * (1 - 1e-6)
        return [s for s in coarse if shortest / s >= least and s > last] + [last]
