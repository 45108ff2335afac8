"""Heads of localisation networks: features -> a transform; the identity at birth.

Convention: transforms here map the output's to the input's points in voxels of one grid, so that no
spacing is asked for. A unit of any parameter moves the image's border by about a tenth of the
image.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.nets.blocks import convolution, silent_convolution
from stn3d.nets.precision import exact
from stn3d.transforms import (
    Affine,
    Attention,
    BSpline,
    Homography,
    PiecewiseAffine,
    Projective,
    Rigid,
    Similarity,
    ThinPlateSpline,
    Transform,
    Translation,
    VelocityField,
    control_grid,
)

MatrixKind = Literal["translation", "attention", "rigid", "similarity", "affine", "projective"]
ControlKind = Literal["thin_plate_spline", "b_spline", "piecewise_affine"]
ParameterKind = Literal[MatrixKind, ControlKind, "basis"]
Head = Literal[ParameterKind, "regional", "velocity"]

MATRIX_KINDS: dict[MatrixKind, type[Homography]] = {
    "translation": Translation,
    "attention": Attention,
    "rigid": Rigid,
    "similarity": Similarity,
    "affine": Affine,
    "projective": Projective,
}
_REACH = 0.1  # of the image, by one unit of a parameter


class Family(nn.Module, ABC):
    """Abstract: makes transforms from ``(B, count)`` numbers; zeros are the identity."""

    count: int

    @abstractmethod
    def forward(self, said: Tensor, grid: Grid) -> Transform:
        """The transform of each row, of a grid's voxels."""


class MatrixFamily(Family):
    """Homographies about the grid's centre."""

    def __init__(self, kind: MatrixKind, spatial_dims: int) -> None:
        super().__init__()
        self.make = MATRIX_KINDS[kind]
        self.count = self.make.num_parameters(spatial_dims)

    def forward(self, said: Tensor, grid: Grid) -> Transform:
        d, size = grid.ndim, torch.tensor(grid.shape).to(said)
        unit = torch.full_like(said[0], 2 * _REACH)
        if self.make is Projective:
            unit[-2 * d : -d] = 4 * _REACH / size  # by 1 +- 0.2 at the faces
        unit[-d:] = _REACH * size
        return self.make(self.make.identity_parameters(d).to(said) + unit * said, grid.centre_mm)


class ControlFamily(Family):
    """Maps told by the displacements of control points on a lattice over the grid."""

    def __init__(self, kind: ControlKind, spatial_dims: int, control_points: int) -> None:
        super().__init__()
        self.kind, self.control_points = kind, control_points
        self.count = spatial_dims * control_points**spatial_dims

    def forward(self, said: Tensor, grid: Grid) -> Transform:
        controls = control_grid(grid, self.control_points)
        size = torch.tensor(grid.shape).to(said)
        moves = said.reshape(len(said), *controls.shape, grid.ndim) * (_REACH * size)
        if self.kind == "thin_plate_spline":
            points = controls.points_mm().reshape(-1, grid.ndim)
            targets = moves.flatten(1, -2).double() + points.to(said.device)
            return ThinPlateSpline(points, targets)
        make = BSpline if self.kind == "b_spline" else PiecewiseAffine
        return make(moves.movedim(-1, 1), controls)


class BasisFamily(Family):
    """B-splines that are sums of a few deformations, which are learned too.

    Jaderberg et al. 2015, section 3.2: ``T = M B`` with B learned.
    """

    def __init__(self, spatial_dims: int, control_points: int, count: int = 8) -> None:
        super().__init__()
        self.count = count
        self.basis = nn.Parameter(
            torch.randn(count, spatial_dims, *(control_points,) * spatial_dims) / count**0.5
        )

    def forward(self, said: Tensor, grid: Grid) -> Transform:
        size = torch.tensor(grid.shape).to(said).reshape(-1, *[1] * grid.ndim)
        moves = torch.einsum("bk,k...->b...", said, self.basis.to(said)) * (_REACH * size)
        return BSpline(moves, control_grid(grid, self.basis.shape[-1]))


def family(kind: ParameterKind, spatial_dims: int, control_points: int) -> Family:
    """The family of a name.

    Args:
        kind: of the transforms.
        spatial_dims: 2 or 3.
        control_points: along each axis, where the kind has any.
    """
    if kind == "basis":
        return BasisFamily(spatial_dims, control_points)
    if kind in get_args(ControlKind):
        return ControlFamily(kind, spatial_dims, control_points)  # type: ignore[arg-type]
    return MatrixFamily(kind, spatial_dims)  # type: ignore[arg-type]


class ParameterHead(nn.Module):
    """The parameters of a family from features.

    The last layer's weights are 0 at birth (Jaderberg et al. 2015, section 3.1).

    Args:
        kind: of the transform.
        spatial_dims: 2 or 3.
        channels: of the features.
        hidden: of a layer before the parameters; 0 for none.
        pooled: voxels along each axis that features ``(B, C, *shape)`` are averaged to, so that any
            shape fits; 0 for features ``(B, C)``.
        control_points: along each axis, where the kind has any.
    """

    def __init__(
        self,
        kind: ParameterKind,
        spatial_dims: int,
        channels: int,
        hidden: int = 64,
        pooled: int = 3,
        control_points: int = 4,
    ) -> None:
        super().__init__()
        self.pooled = pooled
        self.family = family(kind, spatial_dims, control_points)
        features = channels * pooled**spatial_dims if pooled else channels
        before = [nn.Linear(features, hidden), nn.ReLU()] if hidden else []
        self.layers = nn.Sequential(
            nn.Flatten(), *before, nn.Linear(hidden or features, self.family.count)
        )
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Sequence[Tensor], grid: Grid) -> Transform:
        """The transform of each item of a batch, from the coarsest features."""
        last = features[-1].float()
        if self.pooled:
            pool = F.adaptive_avg_pool2d if grid.ndim == 2 else F.adaptive_avg_pool3d
            last = pool(last, self.pooled)
        with exact(last.device):
            made: Transform = self.family(self.layers(last), grid)
        return made


class VelocityHead(nn.Module):
    """A velocity from the features, on a grid of their own or of a few control points.

    Args:
        spatial_dims: 2 or 3.
        channels: of the features, from the finest level on.
        control_points: along each axis; None for the features' own grid, decoded to the finest.
    """

    def __init__(
        self, spatial_dims: int, channels: Sequence[int], control_points: int | None
    ) -> None:
        super().__init__()
        self.control_points = control_points
        used = [channels[-1]] if control_points else list(channels)
        self.decoder = nn.ModuleList(
            convolution(spatial_dims, coarse + fine, fine)
            for fine, coarse in itertools.pairwise(used)
        )
        self.velocity = silent_convolution(spatial_dims, used[0], spatial_dims)

    def forward(self, features: Sequence[Tensor], grid: Grid) -> Transform:
        """The exponential of each item's velocity, which covers the grid's domain."""
        x = features[-1]
        if self.control_points:
            pool = F.adaptive_avg_pool2d if grid.ndim == 2 else F.adaptive_avg_pool3d
            x = pool(x.float(), self.control_points)
        for level, skipped in zip(
            reversed(self.decoder), features[-2::-1] if len(self.decoder) else [], strict=True
        ):
            x = level(torch.cat([_resized(x, skipped.shape[2:]), skipped], dim=1))
        velocity = self.velocity(x).float()
        return VelocityField(velocity, grid.with_shape(velocity.shape[2:]))


def _resized(image: Tensor, shape: Sequence[int]) -> Tensor:
    mode = "bilinear" if image.ndim == 4 else "trilinear"
    return F.interpolate(image, size=tuple(shape), mode=mode, align_corners=False)


def head_of(
    kind: Head, spatial_dims: int, channels: Sequence[int], control_points: int
) -> nn.Module:
    """The head of a name, for features of an encoder.

    Raises:
        InputError: the name is unknown.
    """
    if kind not in HEADS:
        raise InputError(f"the head {kind!r} is unknown; one of {', '.join(HEADS)}.")
    if kind in ("regional", "velocity"):
        return VelocityHead(spatial_dims, channels, control_points if kind == "regional" else None)
    return ParameterHead(
        kind,  # type: ignore[arg-type]
        spatial_dims,
        channels[-1],
        control_points=control_points,
    )


HEADS: tuple[Head, ...] = get_args(Head)
