"""Inversion of displacement fields by fixed-point and Newton steps, for all points at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.kernels.common.points import points_of
from stn3d.kernels.sample_linear.reference import sample_linear


def invert(
    displacement_vox: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    mm_from_vox: Tensor,
    tolerance_mm: float,
    max_iterations: int,
) -> tuple[Tensor, float]:
    """Solve each field in blocks of about a million points."""
    d, linear, largest = len(shape), matrix.to(displacement_vox), 0.0
    goal = points_of(shape, displacement_vox) @ linear[:-1, :-1].T + linear[:-1, -1]
    metric, out = mm_from_vox.to(displacement_vox), []
    for field in displacement_vox.detach().split(1):
        parts = []
        for points in goal.reshape(-1, d).split(1 << 20):
            w, error_mm = _solve(field, points, metric, tolerance_mm, max_iterations)
            parts.append(w)
            largest = max(largest, float(error_mm.max()))
        out.append(torch.cat(parts).T.reshape(d, *shape))
    return torch.stack(out), largest


def _solve(
    field: Tensor, goal: Tensor, metric: Tensor, tolerance_mm: float, max_iterations: int
) -> tuple[Tensor, Tensor]:
    """``w`` with ``w + u(goal + w) = 0`` and the residuals in mm, for points ``(N, d)``."""
    best, w = torch.zeros_like(goal), torch.zeros_like(goal)
    error_mm = torch.full_like(goal[:, 0], math.inf)
    active = torch.arange(len(goal), device=goal.device)
    for iteration in range(max_iterations):
        at = goal[active] + w[active]
        residual = w[active] + sample_linear(field, at[None])[0].T
        size = torch.linalg.vector_norm(residual @ metric.T, dim=-1)
        better = size < error_mm[active]
        best[active[better]], error_mm[active[better]] = w[active[better]], size[better]
        keep = size > tolerance_mm
        active, at, residual = active[keep], at[keep], residual[keep]
        if len(active) == 0:
            break
        w[active] -= residual if iteration < 4 else _newton_step(field, at, residual)
    return best, error_mm


def _newton_step(field: Tensor, at: Tensor, residual: Tensor) -> Tensor:
    """Newton's step where the Jacobian is regular, else the residual; at most two voxels long."""
    with torch.enable_grad():
        points = at.detach().requires_grad_()
        values = sample_linear(field, points[None])[0]
        rows = [torch.autograd.grad(v.sum(), points, retain_graph=True)[0] for v in values]
    jacobian = torch.stack(rows, dim=-2) + torch.eye(at.shape[-1]).to(at)
    usable = torch.linalg.det(jacobian) > 0.05
    step = residual.clone()
    step[usable] = torch.linalg.solve(jacobian[usable], residual[usable][..., None])[..., 0]
    return step * (2 / torch.linalg.vector_norm(step, dim=-1, keepdim=True)).clamp(max=1)
