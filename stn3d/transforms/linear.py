"""Linear transforms from translation to affine.

Convention: ``y = A (x - c) + c + t`` in world RAS+ millimetres, with a centre c, a linear part A
and a translation t. The identity has zero rotation, log-scale and translation, and A = I.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stn3d.arguments import tensor_arguments
from stn3d.choices import LinearKind
from stn3d.display import by_x, number
from stn3d.grid import apply_matrix, homogeneous
from stn3d.transforms.base import Transform, chain
from stn3d.transforms.projective import Homography, per_point

_UNCHANGED = 1e-6  # smaller differences of scales from 1 are not shown


@tensor_arguments(["rotation"])
def rotation_matrix(rotation: Tensor) -> Tensor:
    """Rotation matrices of an angle (d = 2) or a rotation vector (d = 3), in radians.

    Computed as the matrix exponential of the skew-symmetric matrix, which is differentiable at
    zero, in float64 (the error of torch's exponential in float32 is 5e-6).

    Args:
        rotation: ``(..., 1)`` counter-clockwise angle or ``(..., 3)`` axis times angle.

    Returns:
        ``(..., d, d)`` matrices in the dtype of ``rotation``.
    """
    return torch.linalg.matrix_exp(_skew(rotation.double())).to(rotation)


def _skew(rotation: Tensor) -> Tensor:
    """``(..., d, d)`` skew-symmetric matrix of an angle or a rotation vector."""
    if rotation.shape[-1] == 1:
        a = rotation[..., 0]
        o = torch.zeros_like(a)
        return torch.stack([o, -a, a, o], dim=-1).unflatten(-1, (2, 2))
    x, y, z = rotation.unbind(-1)
    o = torch.zeros_like(x)
    return torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))


def _angle_deg(rotation: Tensor) -> float:
    """Angle of a ``(d, d)`` rotation."""
    skew = rotation - rotation.T
    d = len(rotation)
    sine = float(torch.linalg.matrix_norm(skew)) / 8**0.5
    cosine = (float(rotation.trace()) - (d - 2)) / 2
    return math.degrees(math.atan2(sine, cosine))


class Linear(Homography):
    """Abstract base class of homographies without perspective."""

    @abstractmethod
    def linear_part(self) -> Tensor:
        """``(..., d, d)`` linear part A."""

    @property
    def matrix(self) -> Tensor:
        linear = self.linear_part().double()
        centre = self.centre_mm.to(linear)
        return homogeneous(linear, centre + self.translation_mm - linear @ centre)

    def _rows(self) -> list[tuple[str, str]]:
        linear = self.linear_part().detach().cpu().double()
        if linear.ndim > 2 or not bool(linear.isfinite().all()):
            return super()._rows()
        u, scales, vt = torch.linalg.svd(linear)
        rotation = u @ vt
        mirror = float(torch.linalg.det(rotation)) < 0
        rotation[:, 0] *= -1 if mirror else 1
        rows = [("rotation", number(_angle_deg(rotation), "degrees")), *super()._rows()]
        if float((scales - 1).abs().max()) > _UNCHANGED:
            rows.append(("scales", by_x(scales.tolist())))
        return [*rows, ("reflection", "of x" if mirror else "")]

    def _map(self, points_mm: Tensor) -> Tensor:
        return apply_matrix(self.matrix, points_mm)

    def fold(self, other: Transform) -> Transform | None:
        if not isinstance(other, Linear):
            return super().fold(other)
        return Affine.from_matrix(other.matrix.to(self.matrix) @ self.matrix, self.centre_mm)

    def _jacobian(self, points_mm: Tensor) -> Tensor:
        linear = per_point(self.linear_part().to(points_mm), points_mm)
        # torch.broadcast_shapes imports sympy on its first call, which takes half a second
        shape = np.broadcast_shapes(linear.shape[:-2], points_mm.shape[:-1])
        return linear.expand(*shape, self.ndim, self.ndim)


@dataclass(frozen=True, eq=False, repr=False)
class Translation(Linear):
    """Translation, ``[t]``: d parameters in mm."""

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


@dataclass(frozen=True, eq=False, repr=False)
class Attention(Linear):
    """Isotropic scaling and translation (attention, a crop), ``[log scale, t]``: d + 1 parameters.

    Jaderberg et al. 2015 (arXiv:1506.02025), eq. 2, with the logarithm of the scale.
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
        translation = -self.translation_mm * (-log_scale).exp()
        return Attention(torch.cat([-log_scale, translation], dim=-1), self.centre_mm)


@dataclass(frozen=True, eq=False, repr=False)
class Rigid(Linear):
    """Rotation and translation: 3 parameters in 2D, 6 in 3D.

    Args:
        parameters: ``[angle, tx, ty]`` or ``[rx, ry, rz, tx, ty, tz]``: counter-clockwise angle or
            rotation vector (axis times angle) in radians, then translation in mm.
        centre_mm: ``(d,)`` centre of rotation.

    Examples:
        A rotation by 90 degrees about the point (10, 0), and a translation:

        >>> rigid = Rigid(torch.tensor([torch.pi / 2, 0.0, 5.0]), torch.tensor([10.0, 0.0]))
        >>> rigid(torch.tensor([[12.0, 3.0]])).round(decimals=3)
        tensor([[7., 7.]])
        >>> rigid.inverse()(torch.tensor([[7.0, 7.0]])).round(decimals=3)
        tensor([[12.,  3.]])
    """

    @classmethod
    @tensor_arguments(["matrix", "centre_mm"])
    def from_matrix(cls, matrix: Tensor, centre_mm: Tensor) -> Rigid:
        """Rigid transform of a matrix ``moving_from_fixed`` ``(d + 1, d + 1)``; a linear part that
        is not a rotation is replaced by the nearest rotation."""
        from scipy.spatial.transform import Rotation  # slow to import

        matrix, centre_mm = matrix.double(), centre_mm.double()
        d = len(centre_mm)
        linear = torch.eye(3, dtype=torch.float64)
        linear[:d, :d] = matrix[:-1, :-1]
        vector = torch.from_numpy(Rotation.from_matrix(linear.numpy()).as_rotvec())
        shift = apply_matrix(matrix, centre_mm[None])[0] - centre_mm
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
        translation = -_times(self.linear_part().transpose(-1, -2), self.translation_mm)
        rotation = -self.parameters[..., : -self.ndim]
        return Rigid(torch.cat([rotation, translation], dim=-1), self.centre_mm)


@dataclass(frozen=True, eq=False, repr=False)
class Similarity(Linear):
    """Rotation, isotropic scaling and translation: 4 parameters in 2D, 7 in 3D.

    Args:
        parameters: ``[angle, log scale, tx, ty]`` or ``[rx, ry, rz, log scale, tx, ty, tz]``, see
            `Rigid`; the natural logarithm of the scale.
        centre_mm: ``(d,)`` centre of rotation and scaling.

    Examples:
        >>> parameters = torch.tensor([0.0, 2.0, 10.0, 0.0])
        >>> parameters[1] = parameters[1].log()
        >>> similarity = Similarity(parameters, torch.tensor([1.0, 1.0]))
        >>> similarity(torch.tensor([[2.0, 4.0]])).round(decimals=3)
        tensor([[13.,  7.]])
    """

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
        translation = -_times(torch.linalg.inv(self.linear_part()), self.translation_mm)
        rotation_and_scale = -self.parameters[..., : -self.ndim]
        return Similarity(torch.cat([rotation_and_scale, translation], dim=-1), self.centre_mm)


@dataclass(frozen=True, eq=False, repr=False)
class Affine(Linear):
    """Affine transform: 6 parameters in 2D, 12 in 3D.

    Args:
        parameters: linear part A row by row, then translation t in mm.
        centre_mm: ``(d,)`` centre c.

    Examples:
        >>> matrix = torch.tensor([[2.0, 0.5, 3.0], [0.0, 1.0, -1.0], [0.0, 0.0, 1.0]])
        >>> affine = Affine.from_matrix(matrix)
        >>> affine(torch.tensor([[1.0, 2.0]]))
        tensor([[6., 1.]])
        >>> affine.inverse()(torch.tensor([[6.0, 1.0]]))
        tensor([[1., 2.]])
    """

    @staticmethod
    def num_parameters(ndim: int) -> int:
        return ndim * (ndim + 1)

    @staticmethod
    def identity_parameters(ndim: int) -> Tensor:
        eye = torch.eye(ndim, dtype=torch.float64)
        return torch.cat([eye.flatten(), torch.zeros(ndim, dtype=torch.float64)])

    @classmethod
    @tensor_arguments(["matrix", "centre_mm"])
    def from_matrix(cls, matrix: Tensor, centre_mm: Tensor | None = None) -> Affine:
        """Affine transform of a matrix ``moving_from_fixed`` ``(..., d + 1, d + 1)``."""
        linear, translation = matrix[..., :-1, :-1], matrix[..., :-1, -1]
        centre = torch.zeros_like(translation) if centre_mm is None else centre_mm
        centre = centre.reshape(-1, centre.shape[-1])[0].to(matrix)
        shift = translation - centre + linear @ centre
        return cls(torch.cat([linear.flatten(-2), shift], dim=-1), centre)

    def linear_part(self) -> Tensor:
        return self.parameters[..., : -self.ndim].unflatten(-1, (self.ndim, self.ndim))

    def inverse(self) -> Affine:
        return Affine.from_matrix(torch.linalg.inv(self.matrix), self.centre_mm)


LINEAR_KINDS: dict[LinearKind, type[Linear]] = {
    "rigid": Rigid,
    "similarity": Similarity,
    "affine": Affine,
}


def split_linear(transform: Transform) -> tuple[Transform | None, Linear | None]:
    """Split off the last part of a transform if it is linear.

    Convention: ``transform(x) == linear(before(x))``. A deformable registration returns a
    displacement field followed by a linear transform.

    Args:
        transform: any transform.

    Returns:
        ``before``, None if the transform is linear; ``linear``, None if the last part is not
        linear.
    """
    *before, last = transform.parts
    if not isinstance(last, Linear):
        return transform, None
    return (chain(*before) if before else None), last


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]
