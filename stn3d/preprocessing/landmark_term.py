"""The landmark term of a registration's objective."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.length_unit import length_unit_mm
from stn3d.transforms import Affine, LinearKind, Transform
from stn3d.transforms.fit import fit_linear, spans

_UNIT = 10.0  # length units of a pair


@dataclass(frozen=True, eq=False)
class LandmarkTerm:
    """Corresponding landmarks of both images, and their weight in the objective.

    Args:
        fixed_mm: Landmarks of the fixed image, ``(N, d)`` float64, world RAS+ mm.
        moving_mm: The same landmarks in the moving image, ``(N, d)``.
        weight: Weight of the mean squared distance, in units of ``unit_mm``, relative to the image
            loss; above 0.
        unit_mm: Distance at which a landmark of weight 1 adds 1 to the loss, as much as unrelated
            images do; see `distance_unit_mm`.
    """

    fixed_mm: Tensor
    moving_mm: Tensor
    weight: float
    unit_mm: float = _UNIT

    @property
    def swapped(self) -> LandmarkTerm:
        """The term with the roles of fixed and moving exchanged."""
        return replace(self, fixed_mm=self.moving_mm, moving_mm=self.fixed_mm)

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
        return self.weight * (offsets_mm / self.unit_mm).square().sum(dim=-1).mean()

    def __call__(self, transform: Transform) -> Tensor:
        """The loss of a transform, a float64 scalar, differentiable in its parameters."""
        loss = self.of_distances(transform(self.fixed_mm) - self.moving_mm)
        return loss.to(torch.float64)


def distance_unit_mm(fixed: Grid, moving: Grid) -> float:
    """Unit of landmark distances in the objective: 10 length units, which are 10 mm for a head.

    Args:
        fixed: Grid of the fixed image.
        moving: Grid of the moving image.
    """
    return _UNIT * length_unit_mm(fixed, moving)
