"""Composition of displacement fields, and exponentials of velocity fields."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.kernels.common.dispatch import implementation
from stn3d.kernels.common.region import Region


def compose(first_vox: Tensor, second_vox: Tensor) -> Tensor:
    """Displacements of ``x -> second(first(x))`` for fields ``(B, d, *shape)`` on one grid.

    Beyond the grid a field is 0. A batch of one on either side is broadcast. Differentiable once
    in both.
    """
    first_vox, second_vox = torch.broadcast_tensors(first_vox, second_vox)
    same = first_vox.dtype == second_vox.dtype
    return implementation(__name__, first_vox, second_vox, when=same).compose(first_vox, second_vox)


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
    """Displacements of ``x -> field(x + s(x))`` for a scaled step s of limited length.

    With a velocity v the step is ``scale step + keep v``, and this becomes the new velocity
    (momentum; Polyak 1964, doi:10.1016/0041-5553(64)90137-5). Carries no gradient.

    Args:
        step_vox: ``(1, d, *shape)``.
        field_vox: ``(1, d, *shape)`` on the same grid; 0 beyond it.
        scale: factor of the step.
        limit: maximum length of a vector; longer ones are shortened to it.
        region: voxels where the step is not 0.
        out: result, may be the step itself; unchanged outside the region.
        velocity_vox: ``(1, d, *shape)``, updated in the region.
        keep: momentum, the fraction of the velocity that is kept.
    """
    return implementation(__name__, step_vox, field_vox).take_step(
        step_vox, field_vox, scale, limit, region, out, velocity_vox, keep
    )


def exponential(velocity_vox: Tensor, squarings: int) -> Tensor:
    """Displacements of ``exp(v)`` for a stationary velocity field ``(B, d, *shape)``.

    Scaling and squaring (Arsigny et al. 2006, doi:10.1007/11866565_113): the field divided by
    ``2**squarings`` is composed with itself ``squarings`` times. Differentiable once.
    """
    displacement = velocity_vox / 2**squarings
    for _ in range(squarings):
        displacement = compose(displacement, displacement)
    return displacement
