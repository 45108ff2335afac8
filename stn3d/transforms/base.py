"""What every transform is: a map from fixed points to moving points, in millimetres; and chains.

Convention: pull-back. `moved = sample(moving, transform(fixed_points_mm))`; `a.then(b)` applies a
first, then b, so that `a.then(b)(x) == b(a(x))`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Transform(ABC):
    """A map of world RAS+ millimetres, fixed points to moving points.

    Transforms are immutable. Their tensors may carry a leading batch axis B; then the points given
    to `forward` are ``(B, ..., d)`` too, or ``(1, ..., d)`` for points that all of them map.
    """

    @property
    @abstractmethod
    def ndim(self) -> int:
        """The number of spatial dimensions d."""

    @property
    def parts(self) -> tuple[Transform, ...]:
        """The transforms of a chain, the first applied first; of any other, itself alone."""
        return (self,)

    @abstractmethod
    def forward(self, points_mm: Tensor) -> Tensor:
        """Map points.

        Args:
            points_mm: ``(..., d)`` fixed points in world RAS+ millimetres.

        Returns:
            ``(..., d)`` moving points in world RAS+ millimetres, in the dtype of the points.
        """

    @abstractmethod
    def inverse(self) -> Transform:
        """The transform from moving points to fixed points."""

    def __call__(self, points_mm: Tensor) -> Tensor:
        """The same as `forward`."""
        return self.forward(points_mm)

    def then(self, other: Transform) -> Transform:
        """First this transform, then the other; neighbours that fold into one are folded."""
        return chain(self, other)

    def fold(self, other: Transform) -> Transform | None:
        """The one transform that equals this and then the other, or None where there is none."""
        return None

    def jacobian(self, points_mm: Tensor) -> Tensor:
        """``(..., d, d)`` derivatives of moving by fixed coordinates at points ``(..., d)``.

        For fields this is the exact derivative of their linear interpolation; on voxel centres,
        where that has a kink, `stn3d.warp.jacobian_determinant` uses central differences.
        """
        with torch.enable_grad():
            points = points_mm.detach().clone().requires_grad_()
            mapped = self.forward(points)
            if mapped.shape != points.shape:  # each transform of a batch maps these points
                return self.jacobian(points_mm.expand(mapped.shape))
            rows = [
                torch.autograd.grad(mapped[..., i].sum(), points, retain_graph=True)[0]
                for i in range(self.ndim)
            ]
        return torch.stack(rows, dim=-2)


@dataclass(frozen=True, eq=False)
class Chain(Transform):
    """Ordered transforms, the first applied first; build it with `chain` or `then`."""

    transforms: tuple[Transform, ...]

    @property
    def ndim(self) -> int:
        return self.transforms[0].ndim

    @property
    def parts(self) -> tuple[Transform, ...]:
        return self.transforms

    def forward(self, points_mm: Tensor) -> Tensor:
        for transform in self.transforms:
            points_mm = transform.forward(points_mm)
        return points_mm

    def inverse(self) -> Transform:
        return chain(*[transform.inverse() for transform in reversed(self.transforms)])

    def jacobian(self, points_mm: Tensor) -> Tensor:
        total = torch.eye(self.ndim).to(points_mm)
        for transform in self.transforms:
            total = transform.jacobian(points_mm) @ total
            points_mm = transform.forward(points_mm)
        return total


def chain(*transforms: Transform) -> Transform:
    """Transforms applied in the order given; chains are flattened and neighbours folded.

    Raises:
        ValueError: no transform, or their dimensions differ.
    """
    if not transforms or len({t.ndim for t in transforms}) != 1:
        raise ValueError("a chain needs at least one transform, all of one dimension.")
    flat: list[Transform] = []
    for transform in transforms:
        for part in transform.parts:
            folded = flat[-1].fold(part) if flat else None
            if folded is None:
                flat.append(part)
            else:
                flat[-1] = folded
    return flat[0] if len(flat) == 1 else Chain(tuple(flat))
