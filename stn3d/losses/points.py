"""Landmarks that steer a registration beside its images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.transforms import Affine, LinearKind, Transform
from stn3d.transforms.fit import fit_linear, spans

UNIT_MM = 10.0
"""A landmark this far off costs its weight: as much as images that have nothing in common."""


@dataclass(frozen=True, eq=False)
class LandmarkTerm:
    """The same landmarks in both images, and how much they count.

    Args:
        fixed_mm: ``(N, d)`` float64 landmarks of the fixed image, world RAS+ millimetres.
        moving_mm: ``(N, d)`` the same landmarks in the moving image.
        weight: of their mean squared distance, in units of 10 mm, beside the images' loss; above 0.
    """

    fixed_mm: Tensor
    moving_mm: Tensor
    weight: float

    @property
    def swapped(self) -> LandmarkTerm:
        """With the roles changed."""
        return LandmarkTerm(self.moving_mm, self.fixed_mm, self.weight)

    def fitted(self, kind: LinearKind) -> Affine | None:
        """A transform that brings them onto each other, for a start: it turns and shifts, and
        scales unless the kind is rigid; None where they are too few or on one line."""
        count, ndim = self.fixed_mm.shape
        weight = torch.ones(count, dtype=torch.float64)
        both = self.fixed_mm, self.moving_mm
        if count < ndim or not all(bool(spans(points, weight, ndim - 1)) for points in both):
            return None
        return fit_linear("rigid" if kind == "rigid" else "similarity", *both)

    def of_distances(self, offsets_mm: Tensor) -> Tensor:
        """The loss of vectors ``(N, d)`` from transformed to moving landmarks; a scalar."""
        return self.weight * (offsets_mm / UNIT_MM).square().sum(dim=-1).mean()

    def __call__(self, transform: Transform) -> Tensor:
        """The loss of a transform, differentiable in its parameters; a float64 scalar."""
        loss = self.of_distances(transform(self.fixed_mm) - self.moving_mm)
        return loss.to(torch.float64)
