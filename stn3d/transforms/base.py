"""Base class of transforms, and chains of transforms.

Convention: pull-back, ``moved = sample(moving, transform(fixed_points_mm))``. ``a.then(b)`` applies
a first, then b: ``a.then(b)(x) == b(a(x))``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from stn3d.arguments import TensorLike, points_tensor
from stn3d.display import Described, Description
from stn3d.errors import InputError

_SHOWN = 3  # parts in the description of a chain


class Transform(Described):
    """Abstract base class: a map from fixed points to moving points in world RAS+ millimetres.

    Transforms are immutable. Their tensors may have a leading batch axis B; points are then
    ``(B, ..., d)``, or ``(1, ..., d)`` for the same points in each transform. Parameters and points
    may also be MetaTensors, numpy arrays or lists; integers become float64.

    Subclasses implement `_map`, and `_jacobian` where it has a closed form, for plain tensors;
    `_rows` says more about them.
    """

    @property
    @abstractmethod
    def ndim(self) -> int:
        """Number of spatial dimensions d."""

    def description(self) -> Description:
        return Description(type(self).__name__, [("in", f"{self.ndim}D"), *self._rows()])

    def _rows(self) -> list[tuple[str, str]]:
        """Names and values of what characterises the transform, for `description`."""
        return []

    @property
    def parts(self) -> tuple[Transform, ...]:
        """The transforms of a chain in order of application; otherwise the transform itself."""
        return (self,)

    @final
    def forward(self, points_mm: TensorLike) -> Tensor:
        """Map points from the fixed to the moving image.

        Args:
            points_mm: ``(..., d)`` fixed points in world RAS+ millimetres.

        Returns:
            ``(..., d)`` moving points in world RAS+ millimetres, in the dtype of the input, float64
            for integers.

        Raises:
            InputError: these are no points of d coordinates.
        """
        return self._map(self._points(points_mm))

    @abstractmethod
    def _map(self, points_mm: Tensor) -> Tensor:
        """Map points ``(..., d)``."""

    @abstractmethod
    def inverse(self) -> Transform:
        """The transform from moving points to fixed points."""

    def __call__(self, points_mm: TensorLike) -> Tensor:
        """Map points, see `forward`."""
        return self.forward(points_mm)

    def then(self, other: Transform) -> Transform:
        """Apply this transform first, then the other; linear neighbours are merged.

        Examples:
            >>> from stn3d.transforms import Translation
            >>> first = Translation(torch.tensor([1.0, 0.0]), torch.zeros(2))
            >>> second = Translation(torch.tensor([0.0, 2.0]), torch.zeros(2))
            >>> first.then(second)(torch.tensor([[10.0, 10.0]]))
            tensor([[11., 12.]])
        """
        return chain(self, other)

    def fold(self, other: Transform) -> Transform | None:
        """A single transform equal to this one followed by the other; None if there is none."""
        return None

    @final
    def jacobian(self, points_mm: TensorLike) -> Tensor:
        """``(..., d, d)`` derivatives of moving by fixed coordinates at points ``(..., d)``.

        For displacement fields this is the derivative of the linear interpolation, which is not
        continuous at voxel centres; `stn3d.warp.jacobian_determinant` uses central differences.

        Raises:
            InputError: these are no points of d coordinates.
        """
        return self._jacobian(self._points(points_mm))

    def _points(self, points_mm: TensorLike) -> Tensor:
        points = points_tensor(points_mm)
        if points.shape[-1:] != (self.ndim,):
            raise InputError(
                f"points in {self.ndim}D have {self.ndim} coordinates along the last axis; these "
                f"have the shape {tuple(points.shape)}."
            )
        return points

    def _jacobian(self, points_mm: Tensor) -> Tensor:
        """``(..., d, d)`` derivatives at points ``(..., d)``, by automatic differentiation."""
        with torch.enable_grad():
            points = points_mm.detach().clone().requires_grad_()
            mapped = self._map(points)
            if mapped.shape != points.shape:  # a batch of transforms at the same points
                return self._jacobian(points_mm.expand(mapped.shape))
            rows = [
                torch.autograd.grad(mapped[..., i].sum(), points, retain_graph=True)[0]
                for i in range(self.ndim)
            ]
        return torch.stack(rows, dim=-2)


@dataclass(frozen=True, eq=False, repr=False)
class Chain(Transform):
    """Several transforms in order of application, made by `chain` or `Transform.then`.

    Examples:
        A displacement field followed by a translation:

        >>> from stn3d.grid import Grid
        >>> from stn3d.transforms import DisplacementField, Translation
        >>> field = DisplacementField(torch.ones(1, 2, 3, 3), Grid.of_spacing((3, 3)))
        >>> both = field.then(Translation(torch.tensor([5.0, 0.0]), torch.zeros(2)))
        >>> both(torch.tensor([[1.0, 1.0], [9.0, 9.0]]))
        tensor([[ 7.,  2.],
                [14.,  9.]])
        >>> [type(part).__name__ for part in both.parts]
        ['DisplacementField', 'Translation']
    """

    transforms: tuple[Transform, ...]

    @property
    def ndim(self) -> int:
        return self.transforms[0].ndim

    @property
    def parts(self) -> tuple[Transform, ...]:
        return self.transforms

    def _rows(self) -> list[tuple[str, str]]:
        first, *others = self.transforms[:_SHOWN]
        left = len(self.transforms) - _SHOWN
        rows = [("first", repr(first)), *(("then", repr(other)) for other in others)]
        return [*rows, ("and", f"{left} more")] if left > 0 else rows

    def _map(self, points_mm: Tensor) -> Tensor:
        for transform in self.transforms:
            points_mm = transform.forward(points_mm)
        return points_mm

    def inverse(self) -> Transform:
        return chain(*[transform.inverse() for transform in reversed(self.transforms)])

    def _jacobian(self, points_mm: Tensor) -> Tensor:
        total = torch.eye(self.ndim).to(points_mm)
        for transform in self.transforms:
            total = transform.jacobian(points_mm) @ total
            points_mm = transform.forward(points_mm)
        return total


def chain(*transforms: Transform) -> Transform:
    """Transforms applied in the given order; chains are flattened, linear neighbours merged.

    Raises:
        ValueError: there is no transform, or the dimensions differ.
    """
    if not transforms or len({t.ndim for t in transforms}) != 1:
        raise ValueError("a chain needs at least one transform, all of the same dimension.")
    flat: list[Transform] = []
    for transform in transforms:
        for part in transform.parts:
            folded = flat[-1].fold(part) if flat else None
            if folded is None:
                flat.append(part)
            else:
                flat[-1] = folded
    return flat[0] if len(flat) == 1 else Chain(tuple(flat))
