"""One field after another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stn3d.kernels import dispatch, reference
from stn3d.kernels.region import Region, placed


def compose(first_vox: Tensor, second_vox: Tensor) -> Tensor:
    """Displacements of ``x -> second(first(x))`` for fields ``(B, d, *shape)`` on one grid.

    Beyond its faces a field is 0. A batch of one on either side serves all of the other.
    Differentiable once in both.
    """
    first_vox, second_vox = torch.broadcast_tensors(first_vox, second_vox)
    if dispatch.fused(first_vox, second_vox) and first_vox.dtype == second_vox.dtype:
        result: Tensor = _Compose.apply(first_vox, second_vox)
        return result
    return reference.compose(first_vox, second_vox)


class _Compose(torch.autograd.Function):
    """Composition by the CPU's loops."""

    @staticmethod
    def forward(ctx: Any, first_vox: Tensor, second_vox: Tensor) -> Tensor:
        from stn3d.kernels import cpu

        ctx.save_for_backward(first_vox, second_vox)
        return cpu.compose(first_vox, second_vox)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        from stn3d.kernels import cpu

        first_vox, second_vox = ctx.saved_tensors
        by_first, by_second = ctx.needs_input_grad
        return cpu.compose_adjoint(first_vox, second_vox, gradient, by_first, by_second)


def take_step(
    step_vox: Tensor,
    field_vox: Tensor,
    scale: float,
    limit: float,
    region: Region,
    out: Tensor,
    velocity_vox: Tensor | None = None,
    keep: float = 0.0,
) -> Tensor:
    """Displacements of ``x -> field(x + s(x))`` for a scaled step s, of limited length.

    With a velocity v the step is ``scale step + keep v``, and that is the velocity from then on
    (Polyak 1964, doi:10.1016/0041-5553(64)90137-5). Carries no gradient.

    Args:
        step_vox: ``(1, d, *shape)``.
        field_vox: the same, on the same grid; 0 beyond its faces.
        scale: factor of the step.
        limit: vectors that are longer are cut to this length.
        region: where the step is not 0.
        out: where the result goes, maybe the step itself; elsewhere it is left as it is.
        velocity_vox: like the step; changed in the region.
        keep: share of the velocity that goes on.
    """
    if dispatch.fused(step_vox, field_vox):
        from stn3d.kernels import cpu

        options = scale, limit, region, out, velocity_vox, keep
        return cpu.take_step(step_vox, field_vox, *options)
    step = scale * step_vox
    if velocity_vox is not None:
        step = placed(step + keep * velocity_vox, region, velocity_vox)
    return placed(reference.take_step(step, field_vox, limit), region, out)


def exponential(velocity_vox: Tensor, squarings: int) -> Tensor:
    """Displacements of ``exp(v)`` for a stationary velocity field ``(B, d, *shape)``.

    Scaling and squaring (Arsigny et al. 2006, doi:10.1007/11866565_113): the field over
    ``2**squarings`` is composed with itself that often. Differentiable once.
    """
    displacement = velocity_vox / 2**squarings
    for _ in range(squarings):
        displacement = compose(displacement, displacement)
    return displacement
