"""Transforms given by control points: thin-plate splines, B-splines, piecewise affine transforms.

Convention: all vectors are in world RAS+ millimetres; the last axis of points and the channel axis
of fields are (x, y, z). Zero displacements give the identity.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from stn3d.arguments import points_tensor
from stn3d.display import by_x, number
from stn3d.grid import Grid, apply_matrix, homogeneous
from stn3d.sampler import sample_spline
from stn3d.transforms.base import Transform
from stn3d.transforms.inverse import Inverse

_MIN_DISTANCE = 1e-15  # distances are clamped to it, since log(0) has no derivative


def control_grid(grid: Grid, control_points: int) -> Grid:
    """Grid of control points whose outer points lie on the faces of another grid.

    Args:
        grid: grid whose physical domain the control points span.
        control_points: number of control points along each axis, at least 2.

    Raises:
        ValueError: fewer than 2 control points along each axis.
    """
    if control_points < 2:
        raise ValueError(
            f"at least 2 control points are needed along each axis; got {control_points}."
        )
    d = grid.ndim
    scale = torch.eye(d, dtype=torch.float64) / (control_points - 1)
    unit_from_index = homogeneous(scale, torch.zeros(d).double())
    return Grid((control_points,) * d, grid.world_from_unit @ unit_from_index)


@dataclass(frozen=True, eq=False, repr=False)
class ThinPlateSpline(Transform):
    """Thin-plate spline: the smoothest transform that maps control points to their targets.

    Bookstein 1989, doi:10.1109/34.24792: an affine transform plus, for each control point, a
    multiple of ``r^2 log r`` (2D) or ``r`` (3D) of the distance r from it.

    Args:
        points_mm: ``(n, d)`` control points, not collinear (2D) or coplanar (3D).
        targets_mm: ``(n, d)`` or ``(B, n, d)`` targets of the control points.
        smoothing: term added to the diagonal of the kernel matrix (mm in 3D, mm^2 in 2D), one
            number or one per point (Rohr et al. 2001, doi:10.1109/42.929618). 0 interpolates the
            targets; large values approach the least-squares affine transform.

    Raises:
        ValueError: the shapes do not match, or the points do not determine an affine transform.
    """

    points_mm: Tensor
    targets_mm: Tensor
    smoothing: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "points_mm", points_tensor(self.points_mm))
        object.__setattr__(self, "targets_mm", points_tensor(self.targets_mm))
        if self.points_mm.shape != self.targets_mm.shape[-2:]:
            raise ValueError(
                f"each control point needs one target: points are {tuple(self.points_mm.shape)}, "
                f"targets {tuple(self.targets_mm.shape)}."
            )
        _ = self.coefficients_from_targets

    @property
    def ndim(self) -> int:
        return int(self.points_mm.shape[-1])

    def _rows(self) -> list[tuple[str, str]]:
        moved = (self.targets_mm.detach() - self.points_mm.to(self.targets_mm)).norm(dim=-1)
        return [
            ("control points", f"{len(self.points_mm)}"),
            ("largest displacement", number(float(moved.max()), "mm")),
            ("smoothing", f"{self.smoothing:g}" if isinstance(self.smoothing, float) else ""),
        ]

    @property
    def coefficients_from_targets(self) -> Tensor:
        """``(n + d + 1, n)`` matrix from displacements to coefficients, float64."""
        points = tuple(map(tuple, self.points_mm.double().tolist()))
        return _solver(points, self.smoothing)

    @property
    def coefficients(self) -> Tensor:
        """``([B,] n + d + 1, d)`` coefficients: of the control points, then affine; float64."""
        points = self.points_mm.to(self.targets_mm.device).double()
        displacements = self.targets_mm.double() - points
        return self.coefficients_from_targets.to(displacements) @ displacements

    def _map(self, points_mm: Tensor) -> Tensor:
        controls = self.points_mm.to(points_mm)
        coefficients = self.coefficients.to(points_mm)
        flat = points_mm.reshape(-1, self.ndim)
        basis = torch.cat([_kernel(flat, controls), flat, torch.ones_like(flat[:, :1])], dim=-1)
        if coefficients.ndim == 2:
            return points_mm + (basis @ coefficients).reshape(points_mm.shape)
        moved = basis.reshape(len(points_mm), -1, basis.shape[-1]) @ coefficients
        return points_mm + moved.reshape(len(moved), *points_mm.shape[1:])

    def _jacobian(self, points_mm: Tensor) -> Tensor:
        d, batch = self.ndim, points_mm.shape[:1] if self.targets_mm.ndim > 2 else (1,)
        coefficients = self.coefficients.to(points_mm).reshape(-1, len(self.points_mm) + d + 1, d)
        slopes = _kernel_gradient(points_mm.reshape(-1, d), self.points_mm.to(points_mm))
        slopes = slopes.reshape(*batch, -1, *slopes.shape[1:])
        nonlinear = torch.einsum("bpnj,bni->bpij", slopes, coefficients[:, : -d - 1])
        total = nonlinear + coefficients[:, None, -d - 1 : -1].mT + torch.eye(d).to(points_mm)
        lead = points_mm.shape[1:-1] if self.targets_mm.ndim > 2 else points_mm.shape[:-1]
        return total.reshape(*([len(total)] if self.targets_mm.ndim > 2 else []), *lead, d, d)

    def inverse(self) -> Inverse:
        """The inverse, computed point by point by Newton's method."""
        return Inverse(self)


def _kernel(points: Tensor, controls: Tensor) -> Tensor:
    """``(N, n)`` kernel values of each control point at each point."""
    r = torch.cdist(points, controls, compute_mode="donot_use_mm_for_euclid_dist")
    return r.square() * r.clamp(min=_MIN_DISTANCE).log() if points.shape[-1] == 2 else r


def _kernel_gradient(points: Tensor, controls: Tensor) -> Tensor:
    """``(N, n, d)`` derivatives of `_kernel` with respect to the points; 0 at control points."""
    offset = points[:, None] - controls
    r = offset.norm(dim=-1, keepdim=True).clamp(min=_MIN_DISTANCE)
    return offset * (2 * r.log() + 1) if points.shape[-1] == 2 else offset / r


@lru_cache(maxsize=32)
def _solver(points: tuple[tuple[float, ...], ...], smoothing: float | tuple[float, ...]) -> Tensor:
    """``(n + d + 1, n)`` matrix from targets to the spline's coefficients, float64."""
    with torch.inference_mode(False):  # cached tensors are also used in autograd
        controls = torch.tensor(points, dtype=torch.float64)
        n, d = controls.shape
        affine = torch.cat([controls, torch.ones(n, 1).double()], dim=1)
        if int(torch.linalg.matrix_rank(affine)) <= d:
            where = "line" if d == 2 else "plane"
            raise ValueError(
                f"all {n} control points lie on one {where}; a thin-plate spline needs others."
            )
        system = torch.zeros(n + d + 1, n + d + 1, dtype=torch.float64)
        system[:n, :n] = _kernel(controls, controls)
        # Orthogonal to affine maps, r^2 log r is positive definite and r negative definite.
        diagonal = torch.tensor(smoothing, dtype=torch.float64).expand(n)
        system[:n, :n] += torch.diag(diagonal if d == 2 else -diagonal)
        system[:n, n:], system[n:, :n] = affine, affine.T
        return torch.linalg.inv(system)[:, :n].contiguous()


@dataclass(frozen=True, eq=False, repr=False)
class ControlPoints(Transform):
    """Abstract base class: displacements of control points on a regular grid."""

    displacement_mm: Tensor
    grid: Grid

    def __post_init__(self) -> None:
        object.__setattr__(self, "displacement_mm", points_tensor(self.displacement_mm))
        expected = (self.grid.ndim, *self.grid.shape)
        if tuple(self.displacement_mm.shape[1:]) != expected:
            raise ValueError(
                f"displacements of this grid of control points have the shape (B, {expected}); "
                f"got {tuple(self.displacement_mm.shape)}."
            )

    @property
    def ndim(self) -> int:
        return self.grid.ndim

    def _rows(self) -> list[tuple[str, str]]:
        largest = self.displacement_mm.detach().norm(dim=1).max()
        return [
            ("control points", by_x(self.grid.shape)),
            ("largest displacement", number(float(largest), "mm")),
        ]

    def _map(self, points_mm: Tensor) -> Tensor:
        points = points_mm if len(self.displacement_mm) > 1 else points_mm[None]
        index = apply_matrix(self.grid.index_from_world, points)
        vectors = self._read(index.reshape(len(index), -1, self.ndim)).transpose(1, 2)
        batch = vectors.shape[:1] if len(self.displacement_mm) > 1 else points_mm.shape[:1]
        return points_mm + vectors.reshape(*batch, *points_mm.shape[1:]).to(points_mm)

    @abstractmethod
    def _read(self, index: Tensor) -> Tensor:
        """``(B, d, N)`` displacements at index coordinates ``(B, N, d)`` of the control points."""

    def inverse(self) -> Inverse:
        """The inverse, computed point by point by Newton's method."""
        return Inverse(self)


@dataclass(frozen=True, eq=False, repr=False)
class BSpline(ControlPoints):
    """Free-form deformation ``x -> x + u(x)`` with a cubic B-spline u on a grid of control points.

    Rueckert et al. 1999, doi:10.1109/42.796284. The coefficients are mirrored about the outer
    control points; farther than half a spacing beyond them the displacement is constant.

    Args:
        displacement_mm: ``(B, d, *grid.shape)`` coefficients in world millimetres.
        grid: grid of the control points.

    Raises:
        ValueError: the coefficients do not fit the grid.
    """

    def _read(self, index: Tensor) -> Tensor:
        return sample_spline(self.displacement_mm.to(index), index)


@dataclass(frozen=True, eq=False, repr=False)
class PiecewiseAffine(ControlPoints):
    """Transform ``x -> x + u(x)``, affine in each triangle (tetrahedron) between control points.

    Each cell of the grid is divided along its main diagonal into d! simplices (Freudenthal 1942,
    doi:10.2307/1968813), on which u is the linear interpolant of the corners. Beyond the outer
    control points u is constant.

    Args:
        displacement_mm: ``(B, d, *grid.shape)`` vectors in world millimetres.
        grid: grid of the control points, at least 2 along each axis.

    Raises:
        ValueError: the vectors do not fit the grid.
    """

    def _read(self, index: Tensor) -> Tensor:
        values = self.displacement_mm.to(index)
        top = torch.tensor(self.grid.shape).to(index) - 1
        index = torch.minimum(index.clamp(min=0), top)
        base = torch.minimum(index.detach().nan_to_num().floor(), (top - 1).clamp(min=0))
        fraction, order = (index - base).sort(dim=-1, descending=True)
        sizes = [self.grid.shape[axis + 1 :] for axis in range(self.ndim)]
        strides = torch.tensor([torch.Size(size).numel() for size in sizes], device=index.device)
        corner = (base.long() * strides).sum(-1)
        batch = max(len(values), len(index))
        flat = values.flatten(2).expand(batch, -1, -1)
        zero = torch.zeros_like(fraction[..., :1])
        bounds = torch.cat([zero + 1, fraction, zero], dim=-1)
        total: Tensor | None = None
        for step in range(self.ndim + 1):
            if step:
                corner = corner + strides[order[..., step - 1]]
            weight = (bounds[..., step] - bounds[..., step + 1])[:, None]
            term = weight * flat.gather(2, corner[:, None].expand(batch, self.ndim, -1))
            total = term if total is None else total + term
        assert total is not None
        return total
