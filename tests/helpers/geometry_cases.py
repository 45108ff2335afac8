"""Grids, fields and hypothesis settings for tests of geometry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from stn3d.grid import Grid, homogeneous

# The same examples on every run, without a deadline, since shared machines may be slow.
QUICK = settings(max_examples=15, deadline=None, derandomize=True, database=None)

DIMS = (2, 3)


def rotation(ndim: int, angles_deg: Sequence[float]) -> Tensor:
    """Rotation matrix by scipy, independent of stn3d."""
    rotated = Rotation.from_euler("xyz", [*angles_deg, 0, 0, 0][:3], degrees=True)
    if ndim == 2:
        rotated = Rotation.from_euler("z", angles_deg[0], degrees=True)
    return torch.from_numpy(rotated.as_matrix()[:ndim, :ndim].copy())


def make_grid(
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    angles_deg: Sequence[float] = (0.0, 0.0, 0.0),
    origin_mm: Sequence[float] = (0.0, 0.0, 0.0),
    left_handed: bool = False,
) -> Grid:
    """Grid of any orientation, spacing and handedness."""
    d = len(shape)
    signs = torch.ones(d, dtype=torch.float64)
    signs[0] = -1 if left_handed else 1
    scale = torch.tensor(list(spacing_mm)[:d], dtype=torch.float64) * signs
    linear = rotation(d, angles_deg) * scale
    origin = torch.tensor(list(origin_mm)[:d], dtype=torch.float64)
    return Grid(tuple(shape), homogeneous(linear, origin))


def oblique(ndim: int, shape: Sequence[int] | None = None) -> Grid:
    """An oblique, anisotropic, left-handed grid far from the world origin."""
    return make_grid(
        shape or (7, 6, 5)[:ndim], (0.8, 1.7, 2.5), (20, -35, 50), (-31, 12, 57), left_handed=True
    )


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Any grid of 1 to 6 voxels along an axis, 2D or 3D."""
    d = draw(st.sampled_from(DIMS))

    def several(low: float, high: float) -> list[float]:
        return draw(st.lists(st.floats(low, high), min_size=3, max_size=3))

    shape = draw(st.lists(st.integers(1, 6), min_size=d, max_size=d))
    return make_grid(
        shape, several(0.2, 5), several(-170, 170), several(-200, 200), draw(st.booleans())
    )


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Normally distributed numbers, float64."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def uniform(low: float, high: float, *shape: int, seed: int = 0) -> Tensor:
    """Uniformly distributed numbers, float64."""
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def off_kinks(shape: Sequence[int], count: int, seed: int = 0) -> Tensor:
    """``(count, d)`` index points inside, at least 0.1 from integer indices."""
    cell = uniform(0, 1, count, len(shape), seed=seed) * (torch.tensor(shape) - 1)
    return cell.floor() + uniform(0.1, 0.9, count, len(shape), seed=seed + 1)


def taper(grid: Grid) -> Tensor:
    """``(*shape,)`` window: 1 in the centre, falling smoothly to 0 at the outer voxels."""
    total = torch.ones(grid.shape, dtype=torch.float64)
    for axis, n in enumerate(grid.shape):
        line = torch.sin(torch.linspace(0, np.pi, n, dtype=torch.float64)) ** 2
        total = total * line.reshape([-1 if a == axis else 1 for a in range(grid.ndim)])
    return total


def smooth_field(grid: Grid, amplitude_mm: float, seed: int = 0) -> Tensor:
    """``(1, d, *shape)`` smooth field, zero at the border."""
    unit = grid.points_index() / (torch.tensor(grid.shape) - 1)
    waves = random(grid.ndim, grid.ndim, seed=seed)
    phase = random(grid.ndim, seed=seed + 1)
    values = torch.sin(3 * unit @ waves + phase) * taper(grid)[..., None]
    return amplitude_mm * values.movedim(-1, 0)[None]
