"""Heads of localisation networks: features -> transform, initialised to the identity.

Convention: transforms map output points to input points, in voxels of one grid, so no spacing is
needed. A parameter of 1 moves the image border by about a tenth of the image size.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stn3d.arguments import tensor_arguments
from stn3d.errors import InputError
from stn3d.grid import Grid
from stn3d.nets.blocks import convolution, zero_initialised_convolution
from stn3d.nets.precision import no_autocast
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
HeadKind = Literal[ParameterKind, "regional", "velocity"]

HEADS: tuple[HeadKind, ...] = get_args(HeadKind)
MATRIX_KINDS: dict[MatrixKind, type[Homography]] = {
    "translation": Translation,
    "attention": Attention,
    "rigid": Rigid,
    "similarity": Similarity,
    "affine": Affine,
    "projective": Projective,
}
_UNIT_FRACTION = 0.1  # displacement of the border by a parameter of 1, as a fraction of the image


class Parametrisation(nn.Module, ABC):
    """Abstract map from parameter vectors to transforms; zeros give the identity.

    Subclasses set ``num_params``, the length of a parameter vector.
    """

    num_params: int

    @abstractmethod
    def forward(self, params: Tensor, grid: Grid) -> Transform:
        """The transform of each row of ``(B, num_params)``, in voxels of a grid."""


class MatrixParametrisation(Parametrisation):
    """Homographies about the centre of the grid."""

    def __init__(self, kind: MatrixKind, spatial_dims: int) -> None:
        super().__init__()
        self.make = MATRIX_KINDS[kind]
        self.num_params = self.make.num_parameters(spatial_dims)

    def forward(self, params: Tensor, grid: Grid) -> Transform:
        d, size = grid.ndim, torch.tensor(grid.shape).to(params)
        unit = torch.full_like(params[0], 2 * _UNIT_FRACTION)
        if self.make is Projective:
            unit[-2 * d : -d] = 4 * _UNIT_FRACTION / size  # scale of 1 +- 0.2 at the border
        unit[-d:] = _UNIT_FRACTION * size
        identity = self.make.identity_parameters(d).to(params)
        return self.make(identity + unit * params, grid.centre_mm)


class ControlPointParametrisation(Parametrisation):
    """Displacements of control points on a regular lattice over the grid."""

    def __init__(self, kind: ControlKind, spatial_dims: int, control_points: int) -> None:
        super().__init__()
        self.kind, self.control_points = kind, control_points
        self.num_params = spatial_dims * control_points**spatial_dims

    def forward(self, params: Tensor, grid: Grid) -> Transform:
        controls = control_grid(grid, self.control_points)
        size = torch.tensor(grid.shape).to(params)
        displacements = params.reshape(len(params), *controls.shape, grid.ndim) * (
            _UNIT_FRACTION * size
        )
        if self.kind == "thin_plate_spline":
            points = controls.points_mm().reshape(-1, grid.ndim)
            targets = displacements.flatten(1, -2).double() + points.to(params.device)
            return ThinPlateSpline(points, targets)
        make = BSpline if self.kind == "b_spline" else PiecewiseAffine
        return make(displacements.movedim(-1, 1), controls)


class BasisParametrisation(Parametrisation):
    """B-splines that are linear combinations of a few learned deformations.

    Jaderberg et al. 2015, section 3.2: ``T = M B`` with learned B.
    """

    def __init__(self, spatial_dims: int, control_points: int, num_params: int = 8) -> None:
        super().__init__()
        self.num_params = num_params
        shape = num_params, spatial_dims, *(control_points,) * spatial_dims
        self.basis = nn.Parameter(torch.randn(shape) / num_params**0.5)

    def forward(self, params: Tensor, grid: Grid) -> Transform:
        size = torch.tensor(grid.shape).to(params).reshape(-1, *[1] * grid.ndim)
        displacements = torch.einsum("bk,k...->b...", params, self.basis.to(params))
        controls = control_grid(grid, self.basis.shape[-1])
        return BSpline(displacements * (_UNIT_FRACTION * size), controls)


def make_parametrisation(
    kind: ParameterKind, spatial_dims: int, control_points: int
) -> Parametrisation:
    """The parametrisation of a kind of transform.

    Args:
        kind: Kind of transform.
        spatial_dims: 2 or 3.
        control_points: Control points along each axis, for kinds that have them.
    """
    if kind == "basis":
        return BasisParametrisation(spatial_dims, control_points)
    if kind in get_args(ControlKind):
        return ControlPointParametrisation(kind, spatial_dims, control_points)  # type: ignore[arg-type]
    return MatrixParametrisation(kind, spatial_dims)  # type: ignore[arg-type]


class ParameterHead(nn.Module):
    """Transform parameters from features.

    The last layer is initialised to zero (Jaderberg et al. 2015, section 3.1).

    Args:
        kind: Kind of transform.
        spatial_dims: 2 or 3.
        channels: Channels of the features.
        hidden: Units of a hidden layer; 0 for none.
        pool_size: Size of each axis after adaptive average pooling of ``(B, C, *shape)`` features,
            so that any shape fits; 0 for features ``(B, C)``.
        control_points: Control points along each axis, for kinds that have them.
    """

    def __init__(
        self,
        kind: ParameterKind,
        spatial_dims: int,
        channels: int,
        hidden: int = 64,
        pool_size: int = 3,
        control_points: int = 4,
    ) -> None:
        super().__init__()
        self.pool_size = pool_size
        self.parametrisation = make_parametrisation(kind, spatial_dims, control_points)
        features = channels * pool_size**spatial_dims if pool_size else channels
        before = [nn.Linear(features, hidden), nn.ReLU()] if hidden else []
        self.layers = nn.Sequential(
            nn.Flatten(), *before, nn.Linear(hidden or features, self.parametrisation.num_params)
        )
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    @tensor_arguments()
    def forward(self, features: Sequence[Tensor], grid: Grid) -> Transform:
        """The transform of each item of a batch, from the coarsest features."""
        coarsest = features[-1].float()
        if self.pool_size:
            coarsest = _adaptive_pool(coarsest, self.pool_size)
        with no_autocast(coarsest.device):
            transform: Transform = self.parametrisation(self.layers(coarsest), grid)
        return transform


class VelocityHead(nn.Module):
    """Stationary velocity field from features, on their own grid or on a few control points.

    Args:
        spatial_dims: 2 or 3.
        channels: Channels of the features, finest level first.
        control_points: Control points along each axis; None decodes to the grid of the finest
            features.
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
        self.velocity = zero_initialised_convolution(spatial_dims, used[0], spatial_dims)

    @tensor_arguments()
    def forward(self, features: Sequence[Tensor], grid: Grid) -> Transform:
        """The exponential of each item's velocity field over the domain of the grid."""
        x = features[-1]
        if self.control_points:
            x = _adaptive_pool(x.float(), self.control_points)
        skips = features[-2::-1] if len(self.decoder) else []
        for level, skipped in zip(reversed(self.decoder), skips, strict=True):
            x = level(torch.cat([_resized(x, skipped.shape[2:]), skipped], dim=1))
        velocity = self.velocity(x).float()
        return VelocityField(velocity, grid.with_shape(velocity.shape[2:]))


def _adaptive_pool(features: Tensor, size: int) -> Tensor:
    pool = F.adaptive_avg_pool2d if features.ndim == 4 else F.adaptive_avg_pool3d
    return pool(features, size)


def _resized(image: Tensor, shape: Sequence[int]) -> Tensor:
    mode = "bilinear" if image.ndim == 4 else "trilinear"
    return F.interpolate(image, size=tuple(shape), mode=mode, align_corners=False)


def make_head(
    kind: HeadKind, spatial_dims: int, channels: Sequence[int], control_points: int
) -> nn.Module:
    """The head of a kind, for the features of an encoder.

    Args:
        kind: Kind of head, one of `HEADS`.
        spatial_dims: 2 or 3.
        channels: Channels of the encoder's levels, finest first.
        control_points: Control points along each axis, for kinds that have them.

    Raises:
        InputError: The kind is unknown.
    """
    if kind not in HEADS:
        raise InputError(f"unknown head {kind!r}; choose one of {', '.join(HEADS)}.")
    if kind in ("regional", "velocity"):
        return VelocityHead(spatial_dims, channels, control_points if kind == "regional" else None)
    return ParameterHead(
        kind,  # type: ignore[arg-type]
        spatial_dims,
        channels[-1],
        control_points=control_points,
    )
