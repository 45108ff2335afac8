"""Homographies: transforms given by one homogeneous matrix, with or without perspective.

Convention: ``y = (A (x - c) + t) / (1 + p (x - c)) + c`` in world RAS+ millimetres, with a centre
c, a linear part A, a translation t and a perspective p.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stn3d.arguments import TensorLike, points_tensor, tensor_arguments
from stn3d.display import components
from stn3d.grid import apply_matrix, homogeneous
from stn3d.transforms.base import Transform

if TYPE_CHECKING:
    from typing_extensions import Self

_MIN_DENOMINATOR = 1e-6  # points with smaller denominators lie on or beyond the horizon


@dataclass(frozen=True, eq=False, repr=False)
class Homography(Transform):
    """Abstract base class of transforms given by one homogeneous matrix.

    Args:
        parameters: ``(p,)`` or ``(B, p)`` parameters, defined by the subclass.
        centre_mm: ``(d,)`` centre of the transform in world space.

    Raises:
        ValueError: the number of parameters does not fit the dimension of the centre.
    """

    parameters: Tensor
    centre_mm: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", points_tensor(self.parameters))
        object.__setattr__(self, "centre_mm", points_tensor(self.centre_mm))
        expected = self.num_parameters(self.ndim)
        if self.parameters.shape[-1] != expected:
            raise ValueError(
                f"{type(self).__name__} in {self.ndim}D has {expected} parameters; "
                f"got {self.parameters.shape[-1]}."
            )

    @staticmethod
    @abstractmethod
    def num_parameters(ndim: int) -> int:
        """Number of parameters in 2D or 3D."""

    @staticmethod
    @abstractmethod
    def identity_parameters(ndim: int) -> Tensor:
        """``(p,)`` parameters of the identity transform, float64."""

    @property
    @abstractmethod
    def matrix(self) -> Tensor:
        """``(..., d + 1, d + 1)`` homogeneous matrix ``moving_from_fixed``, float64."""

    @classmethod
    def identity(cls, ndim: int, centre_mm: TensorLike | None = None) -> Self:
        """The identity transform with a centre (default: the world origin)."""
        centre = points_tensor([0.0] * ndim if centre_mm is None else centre_mm)
        return cls(cls.identity_parameters(ndim), centre)

    @property
    def ndim(self) -> int:
        return int(self.centre_mm.shape[-1])

    @property
    def translation_mm(self) -> Tensor:
        """``(..., d)`` translation t of the centre, the last d parameters of every kind."""
        return self.parameters[..., -self.ndim :]

    def _rows(self) -> list[tuple[str, str]]:
        if self.parameters.ndim > 1:
            return [("batch", f"{len(self.parameters)} transforms")]
        shift, centre = (components(one.tolist()) for one in (self.translation_mm, self.centre_mm))
        return [("translation", f"{shift} mm"), ("centre", centre)]

    def fold(self, other: Transform) -> Transform | None:
        if not isinstance(other, Homography):
            return None
        return Projective.from_matrix(other.matrix.to(self.matrix) @ self.matrix, self.centre_mm)


@dataclass(frozen=True, eq=False, repr=False)
class Projective(Homography):
    """Projective transform: A row by row, perspective p, t; 8 parameters in 2D, 15 in 3D.

    Points on or behind the horizon, where the denominator is not positive, are mapped to infinity.
    """

    @staticmethod
    def num_parameters(ndim: int) -> int:
        return (ndim + 1) ** 2 - 1

    @staticmethod
    def identity_parameters(ndim: int) -> Tensor:
        eye = torch.eye(ndim, dtype=torch.float64)
        return torch.cat([eye.flatten(), torch.zeros(2 * ndim, dtype=torch.float64)])

    @classmethod
    @tensor_arguments(["matrix", "centre_mm"])
    def from_matrix(cls, matrix: Tensor, centre_mm: Tensor | None = None) -> Projective:
        """Projective transform of a matrix ``moving_from_fixed`` ``(..., d + 1, d + 1)``."""
        translation = matrix[..., :-1, -1]
        centre = torch.zeros_like(translation) if centre_mm is None else centre_mm
        centre = centre.reshape(-1, centre.shape[-1])[0].to(matrix)
        centred = shift_matrix(-centre) @ matrix @ shift_matrix(centre)
        centred = centred / centred[..., -1:, -1:]
        linear, perspective = centred[..., :-1, :-1], centred[..., -1, :-1]
        shift = centred[..., :-1, -1]
        return cls(torch.cat([linear.flatten(-2), perspective, shift], dim=-1), centre)

    @property
    def matrix(self) -> Tensor:
        d = self.ndim
        parameters = self.parameters.double()
        linear = parameters[..., : d * d].unflatten(-1, (d, d))
        top = torch.cat([linear, self.translation_mm.double()[..., None]], dim=-1)
        perspective = parameters[..., None, d * d : -d]
        bottom = torch.cat([perspective, torch.ones_like(perspective[..., :1])], dim=-1)
        centre = self.centre_mm.to(parameters)
        return shift_matrix(centre) @ torch.cat([top, bottom], dim=-2) @ shift_matrix(-centre)

    def _map(self, points_mm: Tensor) -> Tensor:
        depth, _ = self._depth(points_mm)
        valid = depth > _MIN_DENOMINATOR
        mapped = apply_matrix(self.matrix, points_mm)
        return torch.where(valid, mapped / torch.where(valid, depth, 1), torch.inf)

    def _jacobian(self, points_mm: Tensor) -> Tensor:
        depth, perspective = self._depth(points_mm)
        linear = per_point(self.matrix[..., :-1, :-1].to(points_mm), points_mm)
        numerator = linear - self._map(points_mm)[..., None] * perspective[..., None, :]
        return numerator / depth[..., None]

    def _depth(self, points_mm: Tensor) -> tuple[Tensor, Tensor]:
        """Denominators ``(..., 1)`` and their derivatives ``(..., d)`` by the points."""
        row = per_point(self.matrix[..., -1, :].to(points_mm), points_mm)
        perspective = row[..., :-1]
        return (points_mm * perspective).sum(-1, keepdim=True) + row[..., -1:], perspective

    def inverse(self) -> Projective:
        return Projective.from_matrix(torch.linalg.inv(self.matrix), self.centre_mm)


def per_point(values: Tensor, points_mm: Tensor) -> Tensor:
    """Vector or matrix of a transform, shaped to broadcast over points.

    Args:
        values: ``(d,)`` or ``(d, d)``, or a batch of these.
        points_mm: ``(..., d)`` points; with a batch ``(B, ..., d)``.
    """
    d = points_mm.shape[-1]
    axes = 2 if values.shape[-2:] == (d, d) else 1
    if values.ndim == axes:
        return values
    return values.reshape(len(values), *[1] * (points_mm.ndim - 2), *values.shape[1:])


def shift_matrix(translation: Tensor) -> Tensor:
    """``(..., d + 1, d + 1)`` homogeneous matrix of a translation ``(..., d)``."""
    d = translation.shape[-1]
    eye = torch.eye(d).to(translation).expand(*translation.shape[:-1], d, d)
    return homogeneous(eye, translation)
