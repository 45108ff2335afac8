"""Joint histogram by ``scatter_add``."""

from __future__ import annotations

from torch import Tensor


def joint_histogram(fixed: Tensor, moved: Tensor, weight: Tensor, bins: int) -> Tensor:
    """Add the weights of each of the four bins of the B-spline window in turn."""
    batch, channels = moved.shape[:2]
    fixed, moved = fixed.nan_to_num(), moved.nan_to_num()
    at = 1 + moved.clamp(0, 1) * (bins - 3)
    start = at.detach().floor().clamp(max=bins - 3)
    row = (fixed * bins).floor().clamp(0, bins - 1).long()
    weight = weight.expand_as(moved)
    joint = moved.new_zeros(batch, channels, bins * bins)
    for t, window in enumerate(_spline_window(at - start)):
        index = row * bins + start.long() - 1 + t
        joint = joint.scatter_add(2, index.flatten(2), (weight * window).flatten(2))
    return joint.unflatten(2, (bins, bins))


def _spline_window(t: Tensor) -> list[Tensor]:
    """The cubic B-spline at the four nearest bins, for a position ``t`` in 0 to 1 after the
    second."""
    s = 1 - t
    return [s**3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - s**2 + s**3 / 2, t**3 / 6]
