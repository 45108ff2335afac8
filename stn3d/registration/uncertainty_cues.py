"""Cues of the registration error at every point of a coarse grid.

None of them needs the true transform. A discrete search around the result, by descriptors of
self-similarity, is another metric and another optimiser: it finds no displacement where the result
is right. A dense registration with the images swapped leads back to where it began. Where the
descriptors change little when the moving image is shifted, as along an edge or within a
homogeneous region, the images do not determine the displacement (the aperture problem).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from stn3d import kernels
from stn3d.grid import Grid
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.reductions import voxel_sum
from stn3d.registration.outline import tissue
from stn3d.registration.quality_content import BACKGROUND, linear_part
from stn3d.registration.stages import Comparison, DeformableStage, DiscreteStage
from stn3d.registration.stages.discrete import consistent
from stn3d.transforms import Linear, Transform
from stn3d.warp import resample_image

FINE, COARSE = 4.0, 8.0
"""Spacings in length units of the pair (1 mm for a head, see `stn3d.length_unit`)."""
_RADII_VOX = {FINE: 2, COARSE: 3}  # of the searches
_BACK_ITERATIONS = 20
_AIR = 0.15  # of the intensity range; the median of a face in air is below, also with strong noise
_SEEN = 0.5  # weight from which both images show a point
_AROUND_VOX = 2  # half the window whose mean shows how rough a field is


@dataclass(frozen=True, eq=False)
class Cues:
    """Cues on a grid.

    Args:
        grid: The grid, that of the fixed image at some spacing.
        unit_mm: The length unit of the pair.
        values: ``(1, 1, *grid.shape)`` by name. Lengths are in length units.
        seen: ``(1, 1, *grid.shape)``, 1 where both images show something and are not masked.
        body: ``(1, 1, *grid.shape)`` bool, what the fixed image shows, with all that it encloses,
            and the moving image shows too.
    """

    grid: Grid
    unit_mm: float
    values: dict[str, Tensor]
    seen: Tensor
    body: Tensor

    def mean(self, name: str) -> float | None:
        """Mean of a cue over the body; None if there is none."""
        return mean_within(self.values[name], self.body)


def mean_within(values: Tensor, body: Tensor) -> float | None:
    """Mean over a body; None if there is none.

    Args:
        values: ``(1, 1, *shape)``.
        body: ``(1, 1, *shape)`` bool.
    """
    weight = body.to(values)
    total = float(voxel_sum(weight))
    return float(voxel_sum(weight * values)) / total if total else None


@torch.no_grad()
def coarse_cues(pair: Pair, transform: Transform, search: DiscreteStage) -> Cues:
    """Cues that take a part of a second, on a grid of 8 length units.

    Args:
        pair: The prepared images.
        transform: Fixed points to moving points.
        search: The discrete search.
    """
    found = _search_cues(pair, transform, COARSE, search)
    linear = linear_part(transform, pair.fixed)
    return replace(found, values=found.values | _field_cues(pair, transform, linear, found.grid))


@torch.no_grad()
def fine_cues(
    pair: Pair, transform: Transform, search: DiscreteStage, stage: DeformableStage
) -> Cues:
    """All cues, on a grid of 4 length units.

    Args:
        pair: The prepared images.
        transform: Fixed points to moving points.
        search: The discrete search.
        stage: The deformable stage, which is repeated on coarse levels with the images swapped.
    """
    found, linear = _search_cues(pair, transform, FINE, search), linear_part(transform, pair.fixed)
    field = _field_cues(pair, transform, linear, found.grid)
    backward = _backward(pair, transform, linear, found.grid, stage)
    return replace(found, values=found.values | field | {"backward": backward})


def _search_cues(pair: Pair, transform: Transform, units: float, search: DiscreteStage) -> Cues:
    """What a discrete search around the result finds.

    ``residual``: the displacement found; ``inconsistent``: by how much the searches in both
    directions disagree; ``difference``: mean squared difference of the descriptors in a small
    window; ``curvature``: how much that increases with a shift by a voxel, along the axis with the
    least increase. ``size`` is the edge of a cube with the volume of the body.
    """
    spacing_mm = max(units * pair.unit_mm, pair.finest_mm)
    compared = Comparison.of(pair, transform, spacing_mm)
    radius = _RADII_VOX[units]
    there, back = search.both_ways(compared, radius)
    shifts = _unit_shifts(compared.grid.ndim)
    images = compared.fixed, compared.moved, compared.fixed_weight
    cost = kernels.displacement_cost(*images, shifts, search.window_vox)
    zero, before, after = cost[:, :1], cost[:, 1::2], cost[:, 2::2]
    spacing = spacing_mm / pair.unit_mm
    seen = compared.fixed_weight * compared.moved_weight
    body = _body(pair, compared.grid, seen)
    values = {
        "residual": spacing * _length(consistent(there, back, radius)),
        "inconsistent": spacing * _length(kernels.compose(there, back)),
        "difference": zero,
        "curvature": ((before + after) / 2 - zero).amin(dim=1, keepdim=True),
        "size": torch.full_like(zero, _size_mm(body, compared.grid) / pair.unit_mm),
    }
    return Cues(compared.grid, pair.unit_mm, values, seen, body)


def _body(pair: Pair, grid: Grid, seen: Tensor) -> Tensor:
    """``(1, 1, *grid.shape)`` bool, see `Cues`."""
    level = pair.first.fixed.at(max(grid.spacing_mm))
    return (resample_image(shown(level), level.grid, grid) > 0.5) & (seen > _SEEN)


def _size_mm(body: Tensor, grid: Grid) -> float:
    """The edge of a cube, or of a square, as large as the body; at least that of a voxel."""
    voxels = max(float(voxel_sum(body.double())), 1.0)
    return float((voxels * math.prod(grid.spacing_mm)) ** (1 / grid.ndim))


def shown(image: PreparedImage) -> Tensor:
    """``(1, 1, *shape)``, 1 in the body: in tissue and what it encloses; where no face of the image
    lies in air, all that is not dark.

    Args:
        image: The prepared image.
    """
    values = image.image[0, 0]
    faces = (values.select(axis, end) for axis in range(values.ndim) for end in (0, -1))
    if min(float(face.median()) for face in faces) < _AIR:
        return tissue(image)
    return (image.image[:, :1] > BACKGROUND).to(image.image)


def _unit_shifts(ndim: int) -> Tensor:
    """No shift, then by a voxel back and forth along each axis, ``(1 + 2 d, d)``."""
    steps = torch.eye(ndim, dtype=torch.int64)
    pairs = torch.stack([-steps, steps], dim=1).flatten(0, 1)
    return torch.cat([torch.zeros(1, ndim, dtype=torch.int64), pairs])


def _backward(
    pair: Pair, transform: Transform, linear: Linear, grid: Grid, stage: DeformableStage
) -> Tensor:
    """Distance from x to backward(transform(x)) for a dense registration with the images swapped,
    on two coarse levels, from the linear part."""
    factors = tuple(max(units * pair.unit_mm / pair.finest_mm, 1.0) for units in (COARSE, FINE))
    counts = (_BACK_ITERATIONS,) * len(factors)
    again = replace(stage, factors=factors, iterations=counts)
    images = replace(pair.swapped, landmarks=None)
    with torch.enable_grad():
        back = again.estimate(images, linear.inverse(), lambda *_: None)
    points = grid.points_mm()
    distance_mm = (back(transform(points)) - points).norm(dim=-1)
    return (distance_mm / pair.unit_mm).to(pair.fixed.image)[None, None]


def _field_cues(pair: Pair, transform: Transform, linear: Linear, grid: Grid) -> dict[str, Tensor]:
    """Of the displacement beyond the linear part, its ``slope`` (Frobenius norm) and how
    ``rough`` it is (difference from its mean around)."""
    points, back = grid.points_mm(), linear.inverse()
    moves = (back(transform(points)) - points).movedim(-1, 0)[None] / pair.unit_mm
    u = moves.to(pair.fixed.image).contiguous()
    d = grid.ndim
    slopes = [
        torch.gradient(u, spacing=s / pair.unit_mm, dim=2 + axis)[0]
        for axis, s in enumerate(grid.spacing_mm)
        if grid.shape[axis] > 1
    ]
    pool, width = (F.avg_pool2d if d == 2 else F.avg_pool3d), 2 * _AROUND_VOX + 1
    mean = pool(F.pad(u, [_AROUND_VOX] * 2 * d, mode="replicate"), width, stride=1)
    squares = sum(_squares(one) for one in slopes)
    return {
        "slope": torch.as_tensor(squares).sqrt().expand_as(u[:, :1]),
        "rough": _length(u - mean),
    }


def _squares(u: Tensor) -> Tensor:
    return u.square().sum(dim=1, keepdim=True)


def _length(u: Tensor) -> Tensor:
    return u.norm(dim=1, keepdim=True)
