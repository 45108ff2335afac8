"""The transform as it is saved: its field covers the fixed image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from stn3d.grid import Grid, apply_matrix
from stn3d.io import write_transform
from stn3d.registration.postprocessing import final
from stn3d.transforms import Affine, DisplacementField, Transform
from tests.helpers.geometry_cases import oblique, smooth_field


def estimated(grid: Grid) -> Transform:
    """A field in the middle of a grid that vanishes at its border, then a translation."""
    part = grid.cropped([n // 4 for n in grid.shape], [3 * n // 4 for n in grid.shape])
    vectors = smooth_field(part, 1.0).float()
    vectors[vectors.abs() < 1e-6] = 0
    shift = torch.eye(grid.ndim + 1).double()
    shift[:-1, -1] = 3.5
    return DisplacementField(vectors, part).then(Affine.from_matrix(shift))


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_field_covers_the_fixed_image_and_vanishes_at_its_border(ndim: int) -> None:
    grid = oblique(ndim, (24, 20, 16)[:ndim])
    before = estimated(grid)
    after = final(before, grid)
    field = after.parts[0]
    assert isinstance(field, DisplacementField)
    index = apply_matrix(field.grid.index_from_world, grid.points_mm())
    assert bool((index > -1e-6).all())
    assert bool((index < torch.tensor(field.grid.shape) - 1 + 1e-6).all())
    for axis in range(ndim):
        for end in (0, -1):
            assert not bool(field.displacement_mm.select(axis + 2, end).any())
    points = grid.padded(4.0).points_mm()
    quantum = 2.0 ** np.floor(np.log2(min(grid.spacing_mm) / 256))
    assert float((after(points) - before(points)).abs().max()) <= quantum


def test_a_file_says_the_same_at_every_voxel_of_the_fixed_image(tmp_path: Path) -> None:
    """No voxel centre lies outside of the field, whatever a tool does there."""
    grid = oblique(3, (16, 15, 14))
    found = final(estimated(grid), grid)
    write_transform(tmp_path / "transform.h5", found)
    composite = sitk.CompositeTransform(sitk.ReadTransform(str(tmp_path / "transform.h5")))
    field = sitk.DisplacementFieldTransform(composite.GetNthTransform(1)).GetDisplacementField()
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1).T
    flip = np.array([-1.0, -1.0, 1.0])
    for corner in apply_matrix(grid.world_from_index, torch.from_numpy(corners * 1.0)).numpy():
        index = np.array(field.TransformPhysicalPointToContinuousIndex((corner * flip).tolist()))
        assert (index > -1e-3).all()
        assert (index < np.array(field.GetSize()) - 1 + 1e-3).all()
