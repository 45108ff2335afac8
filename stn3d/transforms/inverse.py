"""Numerical inverse of any differentiable transform."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.transforms.base import Transform

_RELATIVE_TOLERANCE = 1e-4  # of the largest displacement
_EPSILONS = 64  # rounding errors of coordinates that a solution may have


@dataclass(frozen=True, eq=False, repr=False)
class Inverse(Transform):
    """Inverse that solves ``transform(x) = y`` for each point y by a damped Newton method.

    Points without a solution, e.g. where the transform folds, are NaN.

    Args:
        transform: transform to invert.
        tolerance_mm: a point is solved when ``|transform(x) - y|`` is below this. Default: a
            ten-thousandth of the largest displacement of the points, or the precision of their
            coordinates if that is coarser.
        max_iterations: maximum number of Newton steps.
    """

    transform: Transform
    tolerance_mm: float | None = None
    max_iterations: int = 50

    @property
    def ndim(self) -> int:
        return self.transform.ndim

    def _rows(self) -> list[tuple[str, str]]:
        return [("of", repr(self.transform))]

    def _map(self, points_mm: Tensor) -> Tensor:
        with torch.no_grad():
            found = self._solve(points_mm)
        jacobian = self.transform.jacobian(found)
        # One more step, which provides the gradient (implicit function theorem).
        gap = points_mm - self.transform(found)
        step = torch.linalg.solve_ex(jacobian, gap[..., None])[0][..., 0]
        return found + torch.where(step.isfinite(), step, 0)

    def _solve(self, target: Tensor) -> Tensor:
        x = target - (self.transform(target) - target)
        target = target.expand(x.shape)
        gap = target - self.transform(x)
        length, tolerance = torch.ones_like(x[..., :1]), self._tolerance(target, x)
        for _ in range(self.max_iterations):
            if bool((gap.norm(dim=-1) <= tolerance / 2).all()):
                break
            jacobian = self.transform.jacobian(x)
            step = torch.linalg.solve_ex(jacobian, gap[..., None])[0][..., 0].nan_to_num()
            new_x = x + length * step
            new_gap = target - self.transform(new_x)
            better = new_gap.norm(dim=-1, keepdim=True) < gap.norm(dim=-1, keepdim=True)
            x, gap = torch.where(better, new_x, x), torch.where(better, new_gap, gap)
            length = torch.where(better, (2 * length).clamp(max=1), length / 2)
        solved = gap.norm(dim=-1, keepdim=True) <= tolerance
        return torch.where(solved, x, torch.nan)

    def _tolerance(self, target: Tensor, estimate: Tensor) -> float:
        """The tolerance given, or that of the points."""
        if self.tolerance_mm is not None:
            return self.tolerance_mm
        lengths = (estimate - target).norm(dim=-1).flatten(), target.norm(dim=-1).flatten()
        displacement, far = (
            float(v[v.isfinite()].max()) if bool(v.isfinite().any()) else 0.0 for v in lengths
        )
        precision = _EPSILONS * torch.finfo(target.dtype).eps * far
        return max(_RELATIVE_TOLERANCE * displacement, precision)

    def inverse(self) -> Transform:
        return self.transform
