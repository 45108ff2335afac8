"""One field after another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stn3d.kernels.reference.sampling import points_of, sample_linear


def compose(
    first_vox: Tensor, second_vox: Tensor, read: Callable[[Tensor, Tensor], Tensor] = sample_linear
) -> Tensor:
    """Displacements of ``x -> second(first(x))``, read by a sampler. See `stn3d.kernels`."""
    shape = first_vox.shape[2:]
    points = points_of(shape, first_vox) + first_vox.movedim(1, -1)
    values = read(second_vox, points.reshape(points.shape[0], -1, len(shape)))
    return first_vox + values.reshape(first_vox.shape)


def take_step(step_vox: Tensor, field_vox: Tensor, limit: float) -> Tensor:
    """Compose with a step of limited length. See `stn3d.kernels`."""
    length = torch.linalg.vector_norm(step_vox, dim=1, keepdim=True)
    return compose(step_vox * (limit / length.clamp(min=limit)), field_vox)
