"""Composition of displacement fields, by sampling one field at the points of the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stn3d.kernels.common.points import points_of
from stn3d.kernels.common.region import Region, store_region
from stn3d.kernels.sample_linear.reference import sample_linear


def compose(
    first_vox: Tensor,
    second_vox: Tensor,
    sample: Callable[[Tensor, Tensor], Tensor] = sample_linear,
) -> Tensor:
    """``first(x) + second(x + first(x))``; ``sample`` interpolates the second field."""
    shape = first_vox.shape[2:]
    points = points_of(shape, first_vox) + first_vox.movedim(1, -1)
    values = sample(second_vox, points.reshape(points.shape[0], -1, len(shape)))
    return first_vox + values.reshape(first_vox.shape)


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
    """Compose everywhere, then store the region."""
    step = scale * step_vox
    if velocity_vox is not None:
        step = store_region(step + keep * velocity_vox, region, velocity_vox)
    length = torch.linalg.vector_norm(step, dim=1, keepdim=True)
    found = compose(step * (limit / length.clamp(min=limit)), field_vox)
    return store_region(found, region, out)
