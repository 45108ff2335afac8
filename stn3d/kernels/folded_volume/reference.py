"""Folded volume by determinants of finite differences."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

# Diagonal neighbours, in the order in which the determinant of the identity is positive.
_DIAGONAL = ((1, 1, 0), (0, 1, 1), (1, 0, 1))


def folded_volume(displacement_vox: Tensor, mirrored: bool) -> Tensor:
    """Sum over the tetrahedra at each voxel of half the inverted volume."""
    d = displacement_vox.shape[1]
    units = [tuple(int(a == b) for b in range(d)) for a in range(d)]
    corners = [
        [
            _edge(displacement_vox, unit, sign) * sign
            for unit, sign in zip(units, signs, strict=True)
        ]
        for signs in product((1, -1), repeat=d)
    ]
    if d == 3:
        for sign in (1, -1):
            corners.append([_edge(displacement_vox, step, sign) * sign for step in _DIAGONAL])
    total = torch.zeros_like(displacement_vox[:, 0])
    for edges in corners:
        determinants = torch.linalg.det(torch.stack(edges, dim=-1))
        total += (determinants if mirrored else -determinants).clamp(min=0)
    return total / (12 if d == 3 else 4)


def _edge(field: Tensor, step: tuple[int, ...], sign: int) -> Tensor:
    """``(B, *shape, d)`` from each voxel to its neighbour, where the displacement takes both."""
    moved = field
    for axis, one in enumerate(step, start=2):
        if one:
            n = field.shape[axis]
            index = (torch.arange(n, device=field.device) + sign).clamp(0, n - 1)
            moved = moved.index_select(axis, index)
    way = torch.tensor(step, dtype=field.dtype, device=field.device) * sign
    return (moved - field).movedim(1, -1) + way
