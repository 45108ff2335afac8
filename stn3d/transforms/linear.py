"""Transforms with one matrix: translation to affine, and projective; parameters <-> matrix.

Convention: all turn, scale and shear about a centre c, ``y = A (x - c) + c + t``, in world RAS+
millimetres; projective ones divide by ``1 + p (x - c)``. Zero rotation, log-scale, translation and
perspective, and A = I, are the identity.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stn3d.choices import LinearKind
from stn3d.grid import apply_matrix, homogeneous
from stn3d.transforms.base import Transform, chain

if TYPE_CHECKING:
    from typing_extensions import Self

_HORIZON = 1e-6  # denominators below it are beyond it


def rotation_matrix(rotation: Tensor) -> Tensor:
    """Rotation matrices from an angle (d = 2) or a rotation vector (d = 3), in radians.

    Args:
        rotation: ``(..., 1)`` counter-clockwise angle or ``(..., 3)`` axis times angle.

    Returns:
        ``(..., d, d)``, by the matrix exponential of the skew matrix (differentiable at zero), in
        the rotation's dtype but reckoned in float64: torch's float32 exponential is off by 5e-6.
    """
    return torch.linalg.matrix_exp(_skew(rotation.double())).to(rotation)


def _skew(rotation: Tensor) -> Tensor:
    """``(..., d, d)`` skew matrix of an angle or a rotation vector."""
    if rotation.shape[-1] == 1:
        a = rotation[..., 0]
        o = torch.zeros_like(a)
        return torch.stack([o, -a, a, o], dim=-1).unflatten(-1, (2, 2))
    x, y, z = rotation.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))


@dataclass(frozen=True, eq=False)
class Homography(Transform):
    """Abstract: a transform that is one homogeneous matrix about a centre.

    Args:
        parameters: ``(p,)`` or ``(B, p)``; their meaning is the final class's.
        centre_mm: ``(d,)`` world position about which the parameters tell.

    Raises:
        ValueError: the number of parameters does not fit the centre's dimension.
    """

    parameters: Tensor
    centre_mm: Tensor

    def __post_init__(self) -> None:
        expected = self.num_parameters(self.ndim)
        if self.parameters.shape[-1] != expected:
            raise ValueError(
                f"{type(self).__name__} in {self.ndim}D has {expected} parameters; "
                f"got {self.parameters.shape[-1]}."
            )

    @staticmethod
    @abstractmethod
    def num_parameters(ndim: int) -> int:
        """How many parameters the transform has in this many dimensions."""

    @staticmethod
    @abstractmethod
    def identity_parameters(ndim: int) -> Tensor:
        """``(p,)`` parameters of the identity, float64."""

    @property
    @abstractmethod
    def matrix(self) -> Tensor:
        """``(..., d + 1, d + 1)`` homogeneous matrix, moving from fixed, float64."""

    @classmethod
    def identity(cls, ndim: int, centre_mm: Tensor | None = None) -> Self:
        """The identity about a centre (the world's origin if none is given)."""
        centre = torch.zeros(ndim, dtype=torch.float64) if centre_mm is None else centre_mm
        return cls(cls.identity_parameters(ndim), centre)

    @property
    def ndim(self) -> int:
        return int(self.centre_mm.shape[-1])

    @property
    def translation_mm(self) -> Tensor:
        """``(..., d)`` translation t of the centre: the last d parameters of every kind."""
        return self.parameters[..., -self.ndim :]

    def fold(self, other: Transform) -> Transform | None:
        if not isinstance(other, Homography):
            return None
        both = (self, other)
        make = Affine if all(isinstance(one, Linear) for one in both) else Projective
        return make.from_matrix(other.matrix.to(self.matrix) @ self.matrix, self.centre_mm)


class Linear(Homography):
    """Abstract: a homography without perspective; parallels stay parallel."""

    @abstractmethod
    def linear_part(self) -> Tensor:
        """``(..., d, d)`` matrix A."""

    @property
    def matrix(self) -> Tensor:
        linear = self.linear_part().double()
        centre = self.centre_mm.to(linear)
        return homogeneous(linear, centre + self.translation_mm - linear @ centre)

    def forward(self, points_mm: Tensor) -> Tensor:
        return apply_matrix(self.matrix, points_mm)

    def jacobian(self, points_mm: Tensor) -> Tensor:
        linear = _over(self.linear_part().to(points_mm), points_mm)
        # numpy's: torch's own imports sympy, half a second, on its first call
        shape = np.broadcast_shapes(linear.shape[:-2], points_mm.shape[:-1])
        return linear.expand(*shape, self.ndim, self.ndim)


@dataclass(frozen=True, eq=False)
class Translation(Linear):
    """A shift alone: ``[t]``; d parameters."""

    @staticmethod
    def num_parameters(ndim: int) -> int:
        return ndim

    @staticmethod
    def identity_parameters(ndim: int) -> Tensor:
        return torch.zeros(ndim, dtype=torch.float64)

    def linear_part(self) -> Tensor:
        d = self.ndim
        return torch.eye(d).to(self.parameters).expand(*self.parameters.shape[:-1], d, d)

    def inverse(self) -> Translation:
        return Translation(-self.parameters, self.centre_mm)


@dataclass(frozen=True, eq=False)
class Attention(Linear):
    """One scale and a shift, a crop that is looked at: ``[log scale, t]``; d + 1 parameters.

    Jaderberg et al. 2015 (arXiv:1506.02025), eq. 2, with the scale's logarithm.
    """

    @staticmethod
    def num_parameters(ndim: int) -> int:
        return 1 + ndim

    @staticmethod
    def identity_parameters(ndim: int) -> Tensor:
        return torch.zeros(1 + ndim, dtype=torch.float64)

    def linear_part(self) -> Tensor:
        scale = self.parameters[..., 0].exp()
        return scale[..., None, None] * torch.eye(self.ndim).to(scale)

    def inverse(self) -> Attention:
        log_scale = self.parameters[..., :1]
        back = -self.translation_mm * (-log_scale).exp()
        return Attention(torch.cat([-log_scale, back], dim=-1), self.centre_mm)


@dataclass(frozen=True, eq=False)
class Rigid(Linear):
    """Rotation, translation: ``[angle, tx, ty]`` or ``[rx, ry, rz, tx, ty, tz]``, radians, mm."""

    @classmethod
    def from_matrix(cls, matrix: Tensor, centre_mm: Tensor) -> Rigid:
        """The rigid transform of a moving-from-fixed matrix ``(d + 1, d + 1)`` that turns and
        shifts only; of other matrices the nearest rotation is taken."""
        from scipy.spatial.transform import Rotation  # slow to import, and little needs it

        d = len(centre_mm)
        linear = torch.eye(3, dtype=torch.float64)
        linear[:d, :d] = matrix[:-1, :-1]
        vector = torch.from_numpy(Rotation.from_matrix(linear.numpy()).as_rotvec())
        shift = apply_matrix(matrix.double(), centre_mm.double()[None])[0] - centre_mm
        return cls(torch.cat([vector if d == 3 else vector[2:], shift]), centre_mm)

    @staticmethod
    def num_parameters(ndim: int) -> int:
        return 3 if ndim == 2 else 6

    @staticmethod
    def identity_parameters(ndim: int) -> Tensor:
        return torch.zeros(Rigid.num_parameters(ndim), dtype=torch.float64)

    def linear_part(self) -> Tensor:
        return rotation_matrix(self.parameters[..., : -self.ndim])

    def inverse(self) -> Rigid:
        back = -_times(self.linear_part().transpose(-1, -2), self.translation_mm)
        turn = -self.parameters[..., : -self.ndim]
        return Rigid(torch.cat([turn, back], dim=-1), self.centre_mm)


@dataclass(frozen=True, eq=False)
class Similarity(Linear):
    """Rigid with one scale: ``[rotation, log scale, translation]``; 4 parameters in 2D, 7 in 3D."""

    @staticmethod
    def num_parameters(ndim: int) -> int:
        return 4 if ndim == 2 else 7

    @staticmethod
    def identity_parameters(ndim: int) -> Tensor:
        return torch.zeros(Similarity.num_parameters(ndim), dtype=torch.float64)

    def linear_part(self) -> Tensor:
        d = self.ndim
        rotation, log_scale = self.parameters[..., : -d - 1], self.parameters[..., -d - 1]
        return log_scale.exp()[..., None, None] * rotation_matrix(rotation)

    def inverse(self) -> Similarity:
        back = -_times(torch.linalg.inv(self.linear_part()), self.translation_mm)
        turn = -self.parameters[..., : -self.ndim]
        return Similarity(torch.cat([turn, back], dim=-1), self.centre_mm)


@dataclass(frozen=True, eq=False)
class Affine(Linear):
    """The full linear map: A row by row, then t; 6 parameters in 2D, 12 in 3D."""

    @staticmethod
    def num_parameters(ndim: int) -> int:
        return ndim * (ndim + 1)

    @staticmethod
    def identity_parameters(ndim: int) -> Tensor:
        eye = torch.eye(ndim, dtype=torch.float64)
        return torch.cat([eye.flatten(), torch.zeros(ndim, dtype=torch.float64)])

    @classmethod
    def from_matrix(cls, matrix: Tensor, centre_mm: Tensor | None = None) -> Affine:
        """The affine of a homogeneous moving-from-fixed matrix ``(..., d + 1, d + 1)``."""
        linear, translation = matrix[..., :-1, :-1], matrix[..., :-1, -1]
        centre = torch.zeros_like(matrix[..., 0, :-1]) if centre_mm is None else centre_mm
        centre = centre.reshape(-1, centre.shape[-1])[0].to(matrix)
        shift = translation - centre + linear @ centre
        return cls(torch.cat([linear.flatten(-2), shift], dim=-1), centre)

    def linear_part(self) -> Tensor:
        return self.parameters[..., : -self.ndim].unflatten(-1, (self.ndim, self.ndim))

    def inverse(self) -> Affine:
        return Affine.from_matrix(torch.linalg.inv(self.matrix), self.centre_mm)


@dataclass(frozen=True, eq=False)
class Projective(Homography):
    """The full homography: A row by row, perspective p, then t; 8 parameters in 2D, 15 in 3D.

    ``y = (A (x - c) + t) / (1 + p (x - c)) + c``. Points on the horizon or behind it, where the
    denominator is not above 0, are mapped to infinity.
    """

    @staticmethod
    def num_parameters(ndim: int) -> int:
        return (ndim + 1) ** 2 - 1

    @staticmethod
    def identity_parameters(ndim: int) -> Tensor:
        eye = torch.eye(ndim, dtype=torch.float64)
        return torch.cat([eye.flatten(), torch.zeros(2 * ndim, dtype=torch.float64)])

    @classmethod
    def from_matrix(cls, matrix: Tensor, centre_mm: Tensor | None = None) -> Projective:
        """The projective map of a homogeneous moving-from-fixed matrix ``(..., d + 1, d + 1)``."""
        centre = torch.zeros_like(matrix[..., 0, :-1]) if centre_mm is None else centre_mm
        centre = centre.reshape(-1, centre.shape[-1])[0].to(matrix)
        own = shift_matrix(-centre) @ matrix @ shift_matrix(centre)
        own = own / own[..., -1:, -1:]
        linear, perspective, shift = own[..., :-1, :-1], own[..., -1, :-1], own[..., :-1, -1]
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

    def forward(self, points_mm: Tensor) -> Tensor:
        depth, _ = self._depth(points_mm)
        seen = depth > _HORIZON
        mapped = apply_matrix(self.matrix, points_mm)
        return torch.where(seen, mapped / torch.where(seen, depth, 1), torch.inf)

    def jacobian(self, points_mm: Tensor) -> Tensor:
        depth, perspective = self._depth(points_mm)
        linear = _over(self.matrix[..., :-1, :-1].to(points_mm), points_mm)
        slopes = linear - self.forward(points_mm)[..., None] * perspective[..., None, :]
        return slopes / depth[..., None]

    def _depth(self, points_mm: Tensor) -> tuple[Tensor, Tensor]:
        """``(..., 1)`` denominators, and their derivative ``(..., d)`` by the points."""
        row = _over(self.matrix[..., -1, :].to(points_mm), points_mm)
        perspective = row[..., :-1]
        return (points_mm * perspective).sum(-1, keepdim=True) + row[..., -1:], perspective

    def inverse(self) -> Projective:
        return Projective.from_matrix(torch.linalg.inv(self.matrix), self.centre_mm)


def _over(numbers: Tensor, points_mm: Tensor) -> Tensor:
    """One transform's vector or matrix, or one for each of a batch, to go with its points."""
    d = points_mm.shape[-1]
    axes = 2 if numbers.shape[-2:] == (d, d) else 1
    if numbers.ndim == axes:
        return numbers
    return numbers.reshape(len(numbers), *[1] * (points_mm.ndim - 2), *numbers.shape[1:])


def shift_matrix(translation: Tensor) -> Tensor:
    """``(..., d + 1, d + 1)`` homogeneous matrix of a shift ``(..., d)``."""
    d = translation.shape[-1]
    eye = torch.eye(d).to(translation).expand(*translation.shape[:-1], d, d)
    return homogeneous(eye, translation)


LINEAR_KINDS: dict[LinearKind, type[Linear]] = {
    "rigid": Rigid,
    "similarity": Similarity,
    "affine": Affine,
}


def split_linear(transform: Transform) -> tuple[Transform | None, Linear | None]:
    """Split a transform into what precedes its final linear part, and that part.

    Convention: ``transform(x) == linear(before(x))``; a registration gives a displacement field and
    then a linear transform.

    Args:
        transform: any transform.

    Returns:
        ``before``, None where the whole transform is linear; ``linear``, None where the last part
        is not linear.
    """
    *before, last = transform.parts
    if not isinstance(last, Linear):
        return transform, None
    return (chain(*before) if before else None), last


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]
