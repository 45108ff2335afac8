"""The largest of the interpolated probabilities, class by class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stn3d.kernels.resample import reference


def resample_classes(
    probabilities: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    factors: Tensor | None,
    groups: Sequence[int],
) -> Tensor:
    """Keep the class with the largest probability so far."""
    best = probabilities.new_zeros(1, 1, *shape)
    found = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for number in range(probabilities.shape[1]):
        one = probabilities[:, number : number + 1]
        here = reference.resample(one, matrix, shape, None, 0.0)
        if factors is not None and groups[number] >= 0:
            here = here * factors[:, groups[number], None]
        better = here > best
        best, found = torch.maximum(best, here), found.masked_fill_(better, number)
    return found
