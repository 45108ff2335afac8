"""The landmark term of a registration's objective."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.transforms import Affine, LinearKind, Transform
from stn3d.transforms.fit import fit_linear, spans

UNIT_MM = 10.0
"""Distance at which a landmark of weight 1 adds 1 to the loss, as much as unrelated images do."""


@dataclass(frozen=True, eq=False)
class LandmarkTerm:
    """Corresponding landmarks of both images, and their weight in the objective.

    Args:
        fixed_mm: Landmarks of the fixed image, ``(N, d)`` float64, world RAS+ mm.
        moving_mm: The same landmarks in the moving image, ``(N, d)``.
        weight: Weight of the mean squared distance, in units of 10 mm, relative to the image loss;
            above 0.
    """

    fixed_mm: Tensor
    moving_mm: Tensor
    weight: float

    @property
    def swapped(self) -> LandmarkTerm:
        """The term with the roles of fixed and moving exchanged."""
        return LandmarkTerm(self.moving_mm, self.fixed_mm, self.weight)

    def fitted(self, kind: LinearKind) -> Affine | None:
        """The least-squares transform of the landmarks, as an initial transform.

        Args:
            kind: Kind of the registration; the fit is rigid for ``rigid``, else a similarity.

        Returns:
            None where there are too few landmarks, or they lie on one line.
        """
        count, ndim = self.fixed_mm.shape
        weight = torch.ones(count, dtype=torch.float64)
        both = self.fixed_mm, self.moving_mm
        if count < ndim or not all(bool(spans(points, weight, ndim - 1)) for points in both):
            return None
        return fit_linear("rigid" if kind == "rigid" else "similarity", *both)

    def of_distances(self, offsets_mm: Tensor) -> Tensor:
        """The loss of the vectors ``(N, d)`` from transformed to moving landmarks; a scalar."""
        return self.weight * (offsets_mm / UNIT_MM).square().sum(dim=-1).mean()

    def __call__(self, transform: Transform) -> Tensor:
        """The loss of a transform, a float64 scalar, differentiable in its parameters."""
        loss = self.of_distances(transform(self.fixed_mm) - self.moving_mm)
        return loss.to(torch.float64)
