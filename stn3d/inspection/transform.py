"""What a transform does: its parts, its largest displacement and where, folding.

Convention: transforms map fixed points to moving points in world RAS+ millimetres.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.inspection.words import number, orientation, position, sizes
from stn3d.io.transforms import Reference, grid_of_reference
from stn3d.metrics import inverse_consistency_error_mm
from stn3d.transforms import (
    DisplacementField,
    Linear,
    LinearParameters,
    Transform,
    VelocityField,
    describe_linear,
)
from stn3d.warp import fov_overlap_fraction, jacobian_determinant

_EXACT = 1e-6  # of scales from 1, and of shears and angles (degrees) from 0
_NOISE_MM = 1e-6  # smaller translations are rounding errors
_TESTED = 64  # points along the longest axis at which an inverse is tested


@dataclass(frozen=True, kw_only=True)
class Displacements:
    """Displacements and volume changes of a transform on a grid.

    Args:
        mean_mm: mean length of the displacement.
        max_mm: the largest one.
        max_at_mm: where it is, world RAS+ mm.
        folding_pct: voxels with a Jacobian determinant of 0 or less, in %.
        jacobian_min: smallest Jacobian determinant.
        jacobian_max: the largest one.
    """

    mean_mm: float
    max_mm: float
    max_at_mm: tuple[float, ...]
    folding_pct: float
    jacobian_min: float
    jacobian_max: float

    def line(self) -> str:
        """All of it in a sentence."""
        return (
            f"displacement: mean {number(self.mean_mm)} mm, largest {number(self.max_mm)} mm at "
            f"{position(self.max_at_mm)}; volume changes by a factor of "
            f"{number(self.jacobian_min)} to {number(self.jacobian_max)}; "
            f"folded voxels: {self.folding_pct:.3g} %"
        )


@dataclass(frozen=True, kw_only=True)
class PartSummary:
    """One part of a transform.

    Args:
        kind: ``identity``, ``translation``, ``rigid``, ``similarity``, ``affine``, ``displacement
            field`` or another class in words.
        reflection: whether it exchanges left and right, as a mirror does.
        parameters: rotation, translation, scales and shears of a linear part.
        rotation_deg: total angle of rotation of a linear part; None with a reflection.
        shape: of the grid of a field.
        spacing_mm: of the grid of a field.
        orientation: of the grid of a field.
        displacements: of a field, at its own voxels.
    """

    kind: str
    reflection: bool = False
    parameters: LinearParameters | None = None
    rotation_deg: float | None = None
    shape: tuple[int, ...] | None = None
    spacing_mm: tuple[float, ...] | None = None
    orientation: str | None = None
    displacements: Displacements | None = None

    def lines(self) -> list[str]:
        """The part in words, its name first."""
        lines = [self.kind]
        if self.reflection:
            lines.append("contains a reflection: it exchanges two sides, as a mirror does")
        if self.parameters is not None and self.kind != "identity":
            lines += self.parameters.lines()
            if self.rotation_deg:
                lines.append(f"total rotation: {number(self.rotation_deg)} degrees")
        if self.shape is not None and self.spacing_mm is not None:
            lines.append(
                f"{sizes(self.shape)} vectors, {sizes(self.spacing_mm, 'mm')}, {self.orientation}"
            )
        if self.displacements is not None:
            lines.append(self.displacements.line())
        return lines


@dataclass(frozen=True, kw_only=True)
class TransformSummary:
    """A transform in words.

    Args:
        ndim: number of dimensions.
        parts: in the order in which a fixed point passes through them.
        over_fixed: displacements of the whole transform over the fixed image, if it is known.
        inside_moving_fraction: share of the fixed image that maps into the moving image, if both
            are known.
    """

    ndim: int
    parts: tuple[PartSummary, ...]
    over_fixed: Displacements | None = None
    inside_moving_fraction: float | None = None

    def lines(self) -> list[str]:
        """The parts, numbered if there are several, then the whole."""
        lines = []
        for count, part in enumerate(self.parts, start=1):
            head, *rest = part.lines()
            lines.append(f"{count}. {head}" if len(self.parts) > 1 else head)
            lines += [f"   {line}" for line in rest]
        if self.over_fixed is not None:
            lines.append("over the fixed image")
            lines.append(f"   {self.over_fixed.line()}")
        if self.inside_moving_fraction is not None:
            lines.append(
                f"   {100 * self.inside_moving_fraction:.1f} % of the fixed image map into the "
                "moving image"
            )
        return lines

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def summarise_transform(
    transform: Transform, fixed: Grid | None = None, moving: Grid | None = None
) -> TransformSummary:
    """Describe a transform.

    Args:
        transform: fixed points to moving points, not a batch.
        fixed: grid of the fixed image, for the displacements of the whole transform.
        moving: grid of the moving image, for the overlap.

    Raises:
        ValueError: the transform is a batch.

    Examples:
        >>> from stn3d.transforms import Translation
        >>> shift = Translation(torch.tensor([0.0, 3.0, 4.0]), torch.zeros(3))
        >>> summary = summarise_transform(shift, Grid.of_spacing((4, 4, 4)))
        >>> summary.parts[0].kind, summary.over_fixed.max_mm
        ('translation', 5.0)
    """
    inside = None
    if fixed is not None and moving is not None:
        inside = fov_overlap_fraction(moving, transform, fixed)
    return TransformSummary(
        ndim=transform.ndim,
        parts=tuple(_part(part) for part in transform.parts),
        over_fixed=None if fixed is None else displacements(transform, fixed),
        inside_moving_fraction=inside,
    )


def inversion_error_mm(
    transform: Transform, inverse: Transform, fixed: Reference | None = None
) -> dict[str, float] | None:
    """Distance from x to ``inverse(transform(x))``, for transforms with fields.

    Args:
        transform: fixed points to moving points.
        inverse: its inverse.
        fixed: the fixed image, at whose voxels it is measured. Default: the grid of the first
            field.

    Returns:
        ``mean``, ``p95`` and ``max`` in mm; None without a field, where the inverse is exact.
    """
    fields = [
        part for part in transform.parts if isinstance(part, DisplacementField | VelocityField)
    ]
    if not fields:
        return None
    grid = fields[0].grid if fixed is None else grid_of_reference(fixed, "fixed")
    points = grid.coarsened(max(grid.size_mm) / _TESTED).points_mm().reshape(-1, grid.ndim)
    return inverse_consistency_error_mm(transform, inverse, points)


@torch.no_grad()
def displacements(transform: Transform, grid: Grid) -> Displacements:
    """Displacements and volume changes at the voxels of a grid."""
    largest, at, total = -1.0, grid.centre_mm, 0.0
    for rows in grid.slabs():
        points = grid.points_mm(rows).reshape(-1, grid.ndim)
        lengths = torch.linalg.vector_norm(transform(points) - points, dim=-1)
        total += float(lengths.sum())
        best = int(lengths.argmax())
        if float(lengths[best]) > largest:
            largest, at = float(lengths[best]), points[best]
    low, high, folded = _determinants(transform, grid)
    return Displacements(
        mean_mm=total / grid.num_voxels,
        max_mm=largest,
        max_at_mm=tuple(at.tolist()),
        folding_pct=folded,
        jacobian_min=low,
        jacobian_max=high,
    )


def _determinants(transform: Transform, grid: Grid) -> tuple[float, float, float]:
    """Smallest and largest determinant, and the voxels with 0 or less in %."""
    determinants = jacobian_determinant(transform, grid)
    folded = 100 * float((determinants <= 0).sum()) / determinants.numel()
    return float(determinants.min()), float(determinants.max()), folded


def _part(part: Transform) -> PartSummary:
    if isinstance(part, Linear):
        return _linear(part)
    if isinstance(part, VelocityField):
        return dataclasses.replace(_field(part.displacement), kind="velocity field")
    if isinstance(part, DisplacementField):
        return _field(part)
    return PartSummary(kind=_words(type(part).__name__))


def _linear(part: Linear) -> PartSummary:
    parameters = describe_linear(part)
    matrix = part.matrix.detach().cpu().double()[..., :-1, :-1]
    reflection = float(torch.linalg.det(matrix)) < 0
    return PartSummary(
        kind=_kind(parameters),
        reflection=reflection,
        parameters=parameters,
        rotation_deg=None if reflection else _total_rotation_deg(matrix),
    )


def _kind(parameters: LinearParameters) -> str:
    """The most special kind of linear transform with these parameters."""
    scales = list(parameters.scales.values())
    if any(abs(shear) > _EXACT for shear in parameters.shears.values()):
        return "affine"
    if max(scales) - min(scales) > _EXACT:
        return "affine"
    if abs(scales[0] - 1) > _EXACT:
        return "similarity"
    if any(abs(angle) > _EXACT for angle in parameters.rotation_deg.values()):
        return "rigid"
    moved = any(abs(value) > _NOISE_MM for value in parameters.translation_mm.values())
    return "translation" if moved else "identity"


def _total_rotation_deg(matrix: Tensor) -> float:
    """Angle of the closest rotation (polar decomposition) of a matrix without reflection."""
    u, _, v = torch.linalg.svd(matrix)
    trace = float((u @ v).trace())
    cosine = trace / 2 if len(matrix) == 2 else (trace - 1) / 2
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _field(field: DisplacementField) -> PartSummary:
    return PartSummary(
        kind="displacement field",
        shape=field.grid.shape,
        spacing_mm=field.grid.spacing_mm,
        orientation=orientation(field.grid),
        displacements=displacements(field, field.grid),
    )


def _words(name: str) -> str:
    """``thin plate spline`` for ``ThinPlateSpline``."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
