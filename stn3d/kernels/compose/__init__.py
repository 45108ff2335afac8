"""One field after another."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.kernels import dispatch, reference
from stn3d.kernels.region import Region, placed
from stn3d.kernels.sampling import sample_linear

_MANY = 16  # so many fields are faster by one call for all, at the price of a copy


def compose(first_vox: Tensor, second_vox: Tensor) -> Tensor:
    """Displacements of ``x -> second(first(x))`` for fields ``(B, d, *shape)`` on one grid.

    Beyond its faces a field is 0. A batch of one on either side serves all of the other.
    Differentiable once in both.
    """
    first_vox, second_vox = torch.broadcast_tensors(first_vox, second_vox)
    if not dispatch.fused(first_vox, second_vox) or first_vox.dtype != second_vox.dtype:
        return reference.compose(first_vox, second_vox)
    wanted = torch.is_grad_enabled() and (first_vox.requires_grad or second_vox.requires_grad)
    if wanted or len(first_vox) >= _MANY:
        return reference.compose(first_vox, second_vox, sample_linear)
    from stn3d.kernels import cpu

    return cpu.compose(first_vox, second_vox)


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
