"""Large displacements by a discrete search with a regulariser that allows jumps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d import kernels
from stn3d.choices import AUTOMATIC
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.losses.similarity import METRICS
from stn3d.losses.similarity.mind import mind_channels
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.reductions import voxel_sum
from stn3d.registration.stages.base import (
    Level,
    LevelProgress,
    OptimiserStage,
    Progress,
    pyramid_floats,
)
from stn3d.registration.stages.dense_start import field_and_linear
from stn3d.registration.stages.equality import agree_already
from stn3d.registration.validation import check_fields
from stn3d.transforms import Affine, DisplacementField, Transform, rounded
from stn3d.transforms.dense import in_mm

_FEATURES = METRICS[AUTOMATIC.structure]
_FINER = 2  # voxels along each axis whose descriptors are averaged
_TV_ITERATIONS = 60
_CONSISTENCY_STEPS = 10
_SPARE_ARRAYS = 2  # at the finer spacing, besides the descriptors: warped image, its weight


@dataclass(frozen=True)
class DiscreteStage(OptimiserStage):
    """Finds displacements of many voxels that the deformable stage does not reach.

    On each level all displacements of whole voxels within a radius are compared by descriptors of
    self-similarity (MIND-SSC), averaged over a small window. Coupled convex optimisation
    (Steinbruecker et al. 2009, doi:10.1109/ICCV.2009.5459364; Heinrich et al. 2014,
    doi:10.1007/978-3-319-10404-1_31; Siebert et al. 2021, doi:10.1007/978-3-030-97281-3_2)
    alternates between the cheapest displacement of each voxel and a smooth field near these. The
    field is smoothed by total variation, which lets organs slide along a wall. The search runs in
    both directions, and the two fields are made consistent with each other.

    Args:
        spacings: Spacings of the levels in length units of the pair (1 mm for a head, see
            `stn3d.length_unit`), coarse to fine.
        radii_vox: Largest displacement on each level, in voxels of the level.
        couplings: Weight of the squared distance between the cheapest displacements and the smooth
            field, per squared voxel, in each alternation. Descriptors range from 0 to 1.
        tv_weight: Weight of the total variation, in voxels of the level.
        window_vox: Half the width of the window over which descriptors are compared.

    Raises:
        InputError: A value does not fit, or there are fewer radii than levels.
    """

    spacings: tuple[float, ...] = (6, 3)
    radii_vox: tuple[int, ...] = (5, 3)
    couplings: tuple[float, ...] = (8e-5, 2.5e-4, 8e-4, 2.5e-3, 8e-3)
    tv_weight: float = 0.3
    window_vox: int = 1

    def __post_init__(self) -> None:
        check_fields(self, "discrete.")
        if len(self.radii_vox) < len(self.spacings):
            raise InputError(
                f"discrete.spacings has {len(self.spacings)} levels and discrete.radii_vox "
                f"{len(self.radii_vox)}; give a radius for each level."
            )

    @property
    def name(self) -> str:
        return "discrete"

    def spacings_mm(self, pair: Pair) -> list[float]:
        """Spacings of the levels, coarse to fine; none is finer than the images."""
        return [max(one * pair.unit_mm, pair.finest_mm) for one in self.spacings]

    def levels(self, pair: Pair) -> list[Level]:
        """The levels for this pair, coarse to fine; both directions are an iteration each."""
        ndim = pair.fixed.grid.ndim
        return [
            Level(spacing, pair.fixed.grid.resampled(spacing).num_voxels * _candidates(r, ndim), 2)
            for spacing, r in zip(self.spacings_mm(pair), self.radii_vox, strict=False)
        ]

    def memory_floats(self, pair: Pair, channels: int) -> int:
        """Highest number of float32 values that the stage holds besides both images."""
        size = mind_channels(pair.fixed.grid.ndim)
        peaks = []
        for level in self.levels(pair):
            grid = pair.fixed.grid.resampled(level.spacing_mm)
            describing = (size + _SPARE_ARRAYS) * _finer(grid).num_voxels
            peaks.append(2 * size * grid.num_voxels + max(describing, level.voxels))
        spacings = [spacing / _FINER for spacing in self.spacings_mm(pair)]
        return pyramid_floats(pair, spacings, channels) + max(peaks)

    def transform_floats(self, pair: Pair) -> int:
        """Number of float32 values of the stage's displacement field."""
        finest = pair.fixed.grid.resampled(self.spacings_mm(pair)[-1])
        return finest.ndim * finest.num_voxels

    @torch.no_grad()
    def estimate(self, pair: Pair, current: Transform, progress: Progress) -> Transform:
        """The current transform preceded by the displacements found, rounded as it is saved."""
        if agree_already(pair, current, self.spacings_mm(pair)):
            return current
        reports = LevelProgress(self.name, self.levels(pair), progress)
        found = current
        for number, level in enumerate(reports.levels):
            comparison = Comparison.of(pair, found, level.spacing_mm)
            note = reports.at(number)
            note(0, comparison.loss)
            residual = self.residual(comparison, self.radii_vox[number])
            field, linear = field_and_linear(residual.then(found), comparison.grid)
            found = linear if field is None else field.then(linear)
            note(1, Comparison.of(pair, found, level.spacing_mm).loss)
        field, linear = field_and_linear(found, pair.fixed.grid)
        return linear if field is None else rounded(field).then(linear)

    @torch.no_grad()
    def loss(self, pair: Pair, transform: Transform) -> float:
        """Mean squared difference of the descriptors on the finest level."""
        return Comparison.of(pair, transform, self.spacings_mm(pair)[-1]).loss

    def residual(self, comparison: Comparison, radius_vox: int) -> DisplacementField:
        """The displacements that align two images whose descriptors are compared.

        Args:
            comparison: The images, the moving one warped by the current transform.
            radius_vox: Largest displacement, in voxels of the comparison.
        """
        u = consistent(*self.both_ways(comparison, radius_vox), radius_vox)
        return DisplacementField(in_mm(u, comparison.grid), comparison.grid)

    def both_ways(self, comparison: Comparison, radius_vox: int) -> tuple[Tensor, Tensor]:
        """The displacements found in either direction, ``(1, d, *shape)`` in voxels.

        Args:
            comparison: The images, the moving one warped by the current transform.
            radius_vox: Largest displacement, in voxels of the comparison.
        """
        offsets = candidate_offsets(radius_vox, comparison.grid.ndim)
        there = self._displacements(comparison, offsets)
        return there, self._displacements(comparison.swapped, offsets)

    def _displacements(self, comparison: Comparison, offsets: Tensor) -> Tensor:
        """The coupled convex optimisation in one direction, ``(1, d, *shape)`` in voxels."""
        images = comparison.fixed, comparison.moved, comparison.fixed_weight
        cost = kernels.displacement_cost(*images, offsets, self.window_vox)
        u = cost.new_zeros(1, comparison.grid.ndim, *comparison.grid.shape)
        for coupling in self.couplings:
            cheapest = kernels.cheapest_displacement(cost, offsets, u, coupling)
            u = kernels.total_variation_smooth(cheapest, self.tv_weight, _TV_ITERATIONS)
        return u


@dataclass(frozen=True, eq=False)
class Comparison:
    """Descriptors of two images on one isotropic grid.

    Args:
        grid: The grid, that of the fixed image at some spacing.
        fixed: ``(1, C, *grid.shape)``.
        moved: The same, of the moving image warped by the current transform.
        fixed_weight: ``(1, 1, *grid.shape)``, 0 where the fixed image is masked.
        moved_weight: Likewise; also 0 where the moving image shows nothing.
    """

    grid: Grid
    fixed: Tensor
    moved: Tensor
    fixed_weight: Tensor
    moved_weight: Tensor

    @classmethod
    def of(cls, pair: Pair, transform: Transform, spacing_mm: float) -> Comparison:
        """Compare a pair at a spacing.

        Args:
            pair: The images; their first channel group is compared.
            transform: Fixed points to moving points.
            spacing_mm: Spacing of the comparison.
        """
        pair = pair.first
        grid = pair.fixed.grid.resampled(spacing_mm)
        identity = Affine.identity(grid.ndim)
        fixed, known = _descriptors(pair.fixed, identity, grid, spacing_mm)
        moved, seen = _descriptors(pair.moving, transform, grid, spacing_mm)
        return cls(grid, fixed, moved, known, seen)

    @property
    def swapped(self) -> Comparison:
        """With the roles of fixed and moved exchanged."""
        return Comparison(self.grid, self.moved, self.fixed, self.moved_weight, self.fixed_weight)

    @property
    def difference(self) -> Tensor:
        """Mean squared difference of the descriptors at each voxel, ``(1, 1, *grid.shape)``."""
        return (self.fixed - self.moved).square().mean(dim=1, keepdim=True)

    @property
    def loss(self) -> float:
        """The mean of `difference` over the voxels that both images show."""
        weight = self.fixed_weight * self.moved_weight
        return float(voxel_sum(weight * self.difference) / voxel_sum(weight).clamp(min=1e-6))


def candidate_offsets(radius_vox: int, ndim: int) -> Tensor:
    """All whole displacements within a radius, ``(N, d)`` int64, the shortest first."""
    line = torch.arange(-radius_vox, radius_vox + 1)
    offsets = torch.cartesian_prod(*[line] * ndim)
    squares = offsets.square().sum(dim=1)
    order = squares.argsort(stable=True)
    return offsets[order[squares[order] <= radius_vox**2]]


def _candidates(radius_vox: int, ndim: int) -> int:
    """About the number of `candidate_offsets`: the volume of a ball."""
    volume = math.pi if ndim == 2 else 4 / 3 * math.pi
    return math.ceil(volume * (radius_vox + 0.5) ** ndim)


def _finer(grid: Grid) -> Grid:
    return grid.with_shape([_FINER * n for n in grid.shape])


def _descriptors(
    image: PreparedImage, transform: Transform, grid: Grid, spacing_mm: float
) -> tuple[Tensor, Tensor]:
    """Descriptors of a warped image on a grid, means of those on a finer one, and their weights."""
    level = image.at(spacing_mm / _FINER)
    described = _FEATURES.prepared_through(level, transform, _finer(grid))
    pool = F.avg_pool2d if grid.ndim == 2 else F.avg_pool3d
    assert described.mask is not None
    return pool(described.image, _FINER), pool(described.mask, _FINER)


def consistent(there: Tensor, back: Tensor, margin_vox: int) -> Tensor:
    """The field ``there`` after both were made more and more inverse to each other.

    Each is replaced by the mean of itself and the other's approximate inverse (Heinrich et al.
    2012, doi:10.1007/978-3-642-33454-2_15). Beyond the grid the fields go on as at its faces.

    Args:
        there: ``(1, d, *shape)`` in voxels.
        back: The displacements in the other direction, likewise.
        margin_vox: Distance beyond the grid up to which they go on.
    """
    d = there.ndim - 2
    sides = [margin_vox] * 2 * d
    one, other = (F.pad(u, sides, mode="replicate") for u in (there, back))
    for _ in range(_CONSISTENCY_STEPS):
        one, other = (
            one - 0.5 * kernels.compose(one, other),
            other - 0.5 * kernels.compose(other, one),
        )
    for axis, n in enumerate(there.shape[2:], start=2):
        one = one.narrow(axis, margin_vox, n)
    return one.contiguous()
