"""A coarse search over rotations and shifts, for images that no plain guess brings together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_ROOT = math.sqrt(2.0)
_ANGLE = 1.533751168755204288118041  # of Alexa's spirals: the root of psi^4 = psi + 4


def rotations(ndim: int, count: int) -> Iterator[Tensor]:
    """Rotation matrices ``(d, d)``, float64, spread evenly over all of them.

    In 3D along a spiral on the sphere of quaternions (Alexa 2022, "Super-Fibonacci spirals",
    doi:10.1109/CVPR52688.2022.00811); in 2D by equal angles.

    Args:
        ndim: 2 or 3.
        count: how many.
    """
    for i in range(count):
        if ndim == 2:
            angle = 2 * math.pi * i / count
            c, s = math.cos(angle), math.sin(angle)
            yield torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
            continue
        t = (i + 0.5) / count
        near, far = math.sqrt(t), math.sqrt(1 - t)
        alpha, beta = 2 * math.pi * (i + 0.5) / _ROOT, 2 * math.pi * (i + 0.5) / _ANGLE
        yield _matrix(
            near * math.sin(alpha),
            near * math.cos(alpha),
            far * math.sin(beta),
            far * math.cos(beta),
        )


def _matrix(x: float, y: float, z: float, w: float) -> Tensor:
    """Of a quaternion of length 1."""
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )


def shifts_mm(room_mm: Sequence[float], step_mm: float, most: int) -> list[Tensor]:
    """Shifts ``(d,)`` on a grid, from minus to plus the room along each axis, 0 among them.

    Args:
        room_mm: half the range along each axis.
        step_mm: from one to the next, at most, unless there would be too many.
        most: no more shifts than this.
    """
    while True:
        counts = [math.floor(room / step_mm) for room in room_mm]
        if math.prod(2 * n + 1 for n in counts) <= most:
            break
        step_mm *= 1.25
    axes = [step_mm * torch.arange(-n, n + 1, dtype=torch.float64) for n in counts]
    return list(torch.cartesian_prod(*axes).reshape(-1, len(axes)))
