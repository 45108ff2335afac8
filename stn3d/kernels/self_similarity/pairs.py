"""The pairs of neighbours that MIND-SSC compares."""

from __future__ import annotations

from itertools import combinations, product


def neighbour_pairs(d: int, dilation: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All pairs of a voxel's neighbours that are not opposite each other, as offsets from it."""
    pairs = []
    for a, b in combinations(range(d), 2):
        for sign, side in product((1, -1), (1, -1)):
            one, other = [0] * d, [0] * d
            one[a], other[b] = side * dilation, side * sign * dilation
            pairs.append((tuple(one), tuple(other)))
    return pairs
