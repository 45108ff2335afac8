"""Heads with known transforms: a brain in a scalp, and the same brain without it."""

from __future__ import annotations

import torch
from torch import Tensor

from stn3d.grid import Grid
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Transform
from tests.helpers.synthetic import Anatomy

BRAIN, SKULL, SCALP = 1.0, 1.12, 1.5
"""Outer faces in units of the brain's semi-axes."""


def head(anatomy: Anatomy, points_mm: Tensor, stripped: bool) -> Tensor:
    """Brightness of a head at world points ``(..., d)``; exactly 0 in air and in what is stripped.

    Args:
        anatomy: The brain.
        points_mm: World points.
        stripped: Whether all but the brain is removed.
    """
    at = anatomy.body(points_mm)
    brain = torch.where(at < BRAIN, anatomy(points_mm), 0)
    scalp = 0.7 + 0.2 * torch.sin(points_mm.sum(-1))
    skull = torch.where((at >= BRAIN) & (at <= SKULL), 0.03, 0.0)
    ring = torch.where((at > SKULL) & (at < SCALP), scalp.float(), skull)
    return brain if stripped else brain + ring


def head_image(
    grid: Grid, stripped: bool, transform: Transform | None = None, seed: int = 0
) -> tuple[Tensor, Grid]:
    """A head about the world origin, read through a transform: ``(1, 1, *shape)`` and its grid."""
    points = grid.points_mm()
    anatomy = Anatomy(torch.zeros(grid.ndim, dtype=torch.float64), seed)
    return head(anatomy, points if transform is None else transform(points), stripped)[
        None, None
    ], grid


def prepared_pair(fixed: tuple[Tensor, Grid], moving: tuple[Tensor, Grid]) -> Pair:
    """The pair for estimators."""
    return Pair(*(PreparedImage(scaled(image), grid) for image, grid in (fixed, moving)))
