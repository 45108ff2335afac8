"""Resampling of class probabilities on another grid, where only the most probable class is kept."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from stn3d.kernels.common.dispatch import implementation


def resample_classes(
    probabilities: Tensor,
    matrix: Tensor,
    shape: Sequence[int],
    factors: Tensor | None = None,
    groups: Sequence[int] = (),
) -> Tensor:
    """The class whose linearly interpolated probability at ``matrix x`` is largest.

    Args:
        probabilities: ``(1, classes, *own)``, at most 256 classes.
        matrix: ``(d + 1, d + 1)`` homogeneous, indices of the probabilities from output indices.
        shape: output shape.
        factors: ``(1, n, *shape)``, 0 or more: the interpolated probabilities of the classes of a
            group are multiplied by that of their group, and the largest product counts.
        groups: for ``factors``: the group of each class, from 0; -1 for a factor of 1.

    Returns:
        ``(1, 1, *shape)`` uint8, the smallest class of a tie; 0 beyond the domain.
    """
    module = implementation(__name__, probabilities, factors)
    found: Tensor = module.resample_classes(
        probabilities, matrix, tuple(shape), factors, tuple(groups)
    )
    return found
