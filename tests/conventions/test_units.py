"""The same voxels in any unit: the same displacement in voxels, the same memory and status."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import stn3d
from stn3d.grid import Grid
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.registration.memory import estimated_gb
from stn3d.registration.result import Registration
from stn3d.registration.settings import settings_from
from stn3d.registration.stages import DeformableStage
from stn3d.transforms import DisplacementField
from tests.helpers.synthetic import Anatomy, Known, grid_about, known_pair, linear_truth

# Voxels of 0.1 um, 0.12 mm (a mouse), 25 (um, written as mm), 1 m.
SCALES = (1e-4, 0.12, 25.0, 1e3)


def linear_pair(kind: str) -> Known:
    """A pair of 32 to 40 voxels along each axis, of different spacings and orientations."""
    centre = torch.tensor([3.0, -2, 1]).double()
    fixed = grid_about(centre, [32.0, 34, 36], (1.0, 1.0, 1.2), (5, -8, 10))
    moving = grid_about(centre + 2, [40.0] * 3, (1.0, 1.1, 1.0))
    return known_pair(linear_truth(kind, centre, centre, 6), fixed, moving)


def deformed_pair() -> Known:
    """Texture that fills the field of view, deformed by up to two voxels."""
    n = 40
    texture = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(n,) * 3), 2.5)
    index = np.indices((n,) * 3).astype(float)
    fading = np.prod(np.sin(np.pi * index / (n - 1)), axis=0)
    u = np.stack([2 * fading * np.sin(2 * np.pi * index[(a + 1) % 3] / n) for a in range(3)])
    images = ndimage.map_coordinates(texture, index + u), texture
    grid = Grid.of_spacing((n,) * 3)
    truth = DisplacementField(torch.from_numpy(u)[None].float(), grid)
    fixed, moving = (torch.from_numpy(v).float()[None, None] for v in images)
    return Known(Anatomy(grid.centre_mm), truth, fixed, grid, moving, grid)


def scaled(grid: Grid, scale: float) -> Grid:
    """The same voxels in another unit."""
    matrix = grid.world_from_index.clone()
    matrix[:-1] *= scale
    return Grid(grid.shape, matrix)


def registered(known: Known, scale: float, **options: Any) -> tuple[Registration, Tensor]:
    """A registration, and where it maps the fixed voxels to, in voxels of the moving image."""
    fixed, moving = scaled(known.fixed_grid, scale), scaled(known.moving_grid, scale)
    found = stn3d.register((known.fixed, fixed), (known.moving, moving), **options)
    points = fixed.points_mm().flatten(0, -2)[::37]
    index = found.transform(points) @ moving.index_from_world[:-1, :-1].T
    return found, index + moving.index_from_world[:-1, -1]


@pytest.mark.parametrize("kind", ["rigid", "affine", "deformable"])
def test_a_registration_does_not_depend_on_the_unit(kind: str) -> None:
    known = deformed_pair() if kind == "deformable" else linear_pair(kind)
    one, expected = registered(known, 1.0, kind=kind)
    for scale in SCALES:
        other, index = registered(known, scale, kind=kind)
        # Rounding errors of headers change where a line search ends.
        distance = (index - expected).norm(dim=-1)
        assert float(distance.mean()) < 0.01, scale
        assert float(distance.max()) < 0.05, scale
        assert other.metrics["memory"] == one.metrics["memory"]
        assert other.metrics["quality"]["status"] == one.metrics["quality"]["status"]
        levels = [[s["stage"] for s in found.metrics["stages"]] for found in (one, other)]
        assert levels[0] == levels[1]


def test_landmarks_weigh_the_same_in_any_unit() -> None:
    known = linear_pair("affine")
    expected = None
    for scale in (1.0, 1e-3, 40.0):
        grids = scaled(known.fixed_grid, scale), scaled(known.moving_grid, scale)
        points = known.fixed_grid.centre_mm + 8 * torch.eye(3).double()
        targets = known.truth(points) + torch.tensor([0.5, -0.5, 0.2]).double()
        sides = [
            stn3d.RegistrationImage((image, grid), landmarks=scale * at)
            for image, grid, at in zip(
                (known.fixed, known.moving), grids, (points, targets), strict=True
            )
        ]
        found = stn3d.register(*sides, kind="affine", init="header")
        loss = found.metrics["after"]["tre_mm"]["mean"] / scale
        expected = loss if expected is None else expected
        assert loss == pytest.approx(expected, rel=0.02)


def test_lengths_given_in_mm_stay_in_mm() -> None:
    grid = Grid.of_spacing((40,) * 3, 0.01)
    given = settings_from({"deformable": {"margin_mm": 8.0}})
    assert estimated_gb(grid, grid, given) > 100  # 800 voxels on each side
    assert estimated_gb(grid, grid, settings_from({})) < 1


# 8 mm, and at 2 mm the five voxels that the smoothing of a step reaches
@pytest.mark.parametrize(("spacing_mm", "margin_mm"), [(0.5, 8.0), (1.0, 8.0), (2.0, 10.0)])
def test_defaults_for_a_head_are_those_of_heads(spacing_mm: float, margin_mm: float) -> None:
    head = Grid.of_spacing([round(n / spacing_mm) for n in (182, 218, 182)], spacing_mm)
    image = torch.zeros(1, 1, *head.shape, dtype=torch.float16)

    pair = Pair(*[PreparedImage(image, head)] * 2)
    assert pair.unit_mm == 1.0
    assert DeformableStage().margin_of(pair) == margin_mm
    final = settings_from({"kind": "rigid"}).stages()[-1]
    assert final.spacings_mm(pair)[-1] <= 2.0
