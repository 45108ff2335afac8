"""Copies for the interactive view: where they lie, what they show, how exact the transform is."""

from __future__ import annotations

import base64
import gzip
import math

import nibabel as nib
import numpy as np
import pytest
import torch

from stn3d.grid import Grid
from stn3d.io import Image, read_image
from stn3d.registration.inputs import LoadedImage, LoadedPair
from stn3d.report import volumes
from stn3d.report.case import ReportCase
from stn3d.report.planes import affine_part
from stn3d.report.views import Scales
from stn3d.report.volumes import CoarseTransform, viewer_volumes
from stn3d.transforms import DisplacementField, Transform
from tests.helpers.geometry_cases import make_grid, smooth_field


def ramp(grid: Grid) -> Image:
    """Linear in the world, so that averages and interpolation are exact."""
    values = grid.points_mm() @ torch.tensor([1.0, -2.0, 0.5]).double()
    return read_image((values[None, None], grid))


def unpacked(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def moved_field(grid: Grid, amplitude_mm: float) -> Transform:
    return DisplacementField(smooth_field(grid, amplitude_mm).float(), grid)


def test_copies_lie_where_the_images_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "_VOXELS", 4000)
    fixed = ramp(make_grid((40, 31, 30), (1.0, 1.5, 2.0), (20, -15, 35), (-31, 12, 57)))
    moving = ramp(make_grid((38, 40, 29), (1.1, 1.0, 2.0), (0, 10, 0), (-25, 12, 50)))
    transform = moved_field(fixed.grid, 3.0)
    case = ReportCase(
        LoadedPair(LoadedImage("fixed", fixed), LoadedImage("moving", moving)), transform, {}
    )
    scales = Scales((-300.0, 300.0), (-300.0, 300.0), (), ())
    found = viewer_volumes(case, scales)
    assert found["coarser"]
    for name in ("fixed", "before", "after"):
        copy = unpacked(found[name])
        assert math.prod(copy.shape) <= 4000
        assert max(copy.header.get_zooms()) == pytest.approx(found["spacing_mm"][0], rel=0.3)
        points = Grid(copy.shape, torch.from_numpy(copy.affine)).points_mm()
        if name == "after":
            points = transform.forward(points)
        inside = np.ones(copy.shape, bool)
        index = (points - moving.grid.world_from_index[:3, 3]) @ torch.linalg.inv(
            moving.grid.world_from_index[:3, :3]
        ).T
        if name == "after":  # and only where the moving image is, away from its border
            shape = torch.tensor(moving.grid.shape)
            inside = ((index > 3) & (index < shape - 4)).all(dim=-1).numpy()
        known = (points @ torch.tensor([1.0, -2.0, 0.5]).double()).numpy()
        shown = np.asanyarray(copy.dataobj) / 127 * 600 - 300
        inner = inside & (np.indices(copy.shape).min(axis=0) > 1)
        for axis, n in enumerate(copy.shape):
            inner &= np.indices(copy.shape)[axis] < n - 2
        assert inner.sum() > 40
        assert np.abs(shown - known)[inner].max() < 600 / 127 + (3 if name == "after" else 0.1)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_coarse_transform_is_as_exact_as_it_says(ndim: int) -> None:
    grid = make_grid((40, 31, 30)[:ndim], (2.0, 2.5, 3.0), (20, -15, 35), (-31, 12, 57))
    transform = moved_field(grid, 6.0)
    coarse = CoarseTransform(transform, affine_part(transform, grid).matrix, grid)
    points = grid.with_shape([23] * ndim).points_mm().flatten(0, -2)
    away = (coarse.forward(points) - transform.forward(points)).norm(dim=-1)
    most, largest = coarse.error_mm()
    assert most < 0.2 < float((transform.forward(points) - points).norm(dim=-1).max())
    assert float(away.quantile(0.95)) == pytest.approx(most, rel=0.3)
    assert float(away.max()) < 1.5 * largest
    content = coarse.as_dict()
    steps = np.frombuffer(gzip.decompress(base64.b64decode(content["field"])), "<i2")
    field = np.cumsum(steps.reshape(ndim, *content["shape"]), axis=-1)
    np.testing.assert_array_equal(np.moveaxis(field, 0, -1), coarse.displacements[0])
