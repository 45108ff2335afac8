"""Rotations and translations of the exhaustive search for an initial transform."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

_PHI = math.sqrt(2.0)
_PSI = 1.533751168755204288118041  # Alexa 2022: the positive root of psi^4 = psi + 4


def rotations(ndim: int, count: int) -> Iterator[Tensor]:
    """Rotation matrices ``(d, d)``, float64, evenly spread over all rotations.

    In 3D super-Fibonacci spirals on the sphere of unit quaternions (Alexa 2022,
    doi:10.1109/CVPR52688.2022.00811); in 2D equal angles.

    Args:
        ndim: 2 or 3.
        count: Number of rotations.
    """
    for i in range(count):
        if ndim == 2:
            angle = 2 * math.pi * i / count
            c, s = math.cos(angle), math.sin(angle)
            yield torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
            continue
        t = (i + 0.5) / count
        near, far = math.sqrt(t), math.sqrt(1 - t)
        alpha, beta = 2 * math.pi * (i + 0.5) / _PHI, 2 * math.pi * (i + 0.5) / _PSI
        yield _matrix(
            near * math.sin(alpha),
            near * math.cos(alpha),
            far * math.sin(beta),
            far * math.cos(beta),
        )


def _matrix(x: float, y: float, z: float, w: float) -> Tensor:
    """Rotation matrix of a unit quaternion."""
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )


def translations_mm(slack_mm: Sequence[float], step_mm: float, max_count: int) -> list[Tensor]:
    """Translations ``(d,)`` on a regular grid that includes 0.

    Args:
        slack_mm: Half the range along each axis.
        step_mm: Step of the grid; it grows until the grid has at most ``max_count`` points.
        max_count: Maximum number of translations.
    """
    while True:
        counts = [math.floor(round(slack / step_mm, 4)) for slack in slack_mm]
        if math.prod(2 * n + 1 for n in counts) <= max_count:
            break
        step_mm *= 1.25
    axes = [step_mm * torch.arange(-n, n + 1, dtype=torch.float64) for n in counts]
    return list(torch.cartesian_prod(*axes).reshape(-1, len(axes)))
