"""The inverse of any transform that can be differentiated, point by point."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stn3d.transforms.base import Transform


@dataclass(frozen=True, eq=False)
class Inverse(Transform):
    """Solves ``transform(x) = y`` for every y by Newton's method with shortened steps.

    Where the transform folds there may be no x, or several; a point that is not solved comes back
    as NaN, so that nothing unsolved is used unseen.

    Args:
        transform: what is inverted.
        tolerance_mm: a point is solved when it is mapped so near.
        max_iterations: steps at most.
    """

    transform: Transform
    tolerance_mm: float = 1e-3
    max_iterations: int = 50

    @property
    def ndim(self) -> int:
        return self.transform.ndim

    def forward(self, points_mm: Tensor) -> Tensor:
        with torch.no_grad():
            found = self._solve(points_mm)
        slopes = self.transform.jacobian(found)
        # One more step, which carries the gradient (implicit function theorem).
        gap = points_mm - self.transform(found)
        step = torch.linalg.solve_ex(slopes, gap[..., None])[0][..., 0]
        return found + torch.where(step.isfinite(), step, 0)

    def _solve(self, wanted: Tensor) -> Tensor:
        x = wanted - (self.transform(wanted) - wanted)
        wanted = wanted.expand(x.shape)
        gap = wanted - self.transform(x)
        length = torch.ones_like(x[..., :1])
        for _ in range(self.max_iterations):
            if bool((gap.norm(dim=-1) <= self.tolerance_mm / 2).all()):
                break
            slopes = self.transform.jacobian(x)
            step = torch.linalg.solve_ex(slopes, gap[..., None])[0][..., 0].nan_to_num()
            tried = x + length * step
            left = wanted - self.transform(tried)
            better = left.norm(dim=-1, keepdim=True) < gap.norm(dim=-1, keepdim=True)
            x, gap = torch.where(better, tried, x), torch.where(better, left, gap)
            length = torch.where(better, (2 * length).clamp(max=1), length / 2)
        solved = gap.norm(dim=-1, keepdim=True) <= self.tolerance_mm
        return torch.where(solved, x, torch.nan)

    def inverse(self) -> Transform:
        return self.transform
