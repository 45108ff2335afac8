"""Registration of series with known motion, one volume at a time."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import stn3d
from stn3d.io import Volumes
from stn3d.series.api import register_series
from stn3d.transforms import Rigid
from tests.helpers.series_cases import (
    COUNT,
    HEADERS,
    Known,
    epi_grid,
    head,
    head_points,
    make_series,
    motions,
    simulated_volumes,
    write,
)
from tests.helpers.synthetic import Anatomy, grid_about


@pytest.mark.parametrize("header", HEADERS)
def test_known_motion_is_recovered(tmp_path: Path, header: str) -> None:
    known = make_series(tmp_path, header)
    found = register_series(known.path, threads=1)
    still = [Rigid.identity(3)] * COUNT
    assert known.error_mm(still, range(COUNT)) > 2
    assert known.error_mm(found.transforms, range(COUNT)) < 0.2  # mm; voxels have 3 x 3 x 4
    assert torch.equal(found.transforms[COUNT // 2].parameters, torch.zeros(6).double())
    assert min(found.correlations) > 0.98


def test_an_external_reference(known: Known, tmp_path: Path) -> None:
    away = Rigid(torch.tensor([0.1, -0.15, 0.2, 6.0, -9.0, 12.0]).double(), known.grid.centre_mm)
    grid = grid_about(torch.tensor([5.0, -8.0, 3.0]), (120, 130, 110), (2, 2.2, 2), (5, 0, -10))
    anatomical = head(away(grid.points_mm()))[None, None]
    found = register_series(known.path, (anatomical, grid), threads=1)
    points = head_points(known.grid)
    start = away.inverse()(points)
    for transform, truth in zip(found.transforms, known.truths, strict=True):
        gap = transform(start) - truth(points)
        assert float(gap.norm(dim=-1).mean()) < 0.3
    assert next(iter(found.moved)).shape == (1, 1, *grid.shape)
    found.save(tmp_path / "out")
    moved = nib.load(tmp_path / "out" / "moved.nii.gz")
    assert moved.shape == (*grid.shape, COUNT)
    np.testing.assert_allclose(moved.affine, grid.world_from_index.numpy(), atol=1e-4)


def test_volumes_of_different_contrast_with_nmi(known: Known, tmp_path: Path) -> None:
    array = np.asanyarray(nib.load(known.path).dataobj).astype(np.float32)
    inside = array[..., ::2] > 300
    array[..., ::2] = np.where(inside, 1500 - array[..., ::2], array[..., ::2])
    path = write(tmp_path / "dwi.nii.gz", array.astype(np.int16), known.grid)
    found = register_series(path, reference_volume=2, metric="nmi", threads=1)
    assert known.error_mm(found.transforms, range(COUNT)) < 0.4


def test_sudden_motion_is_recovered(tmp_path: Path) -> None:
    grid = epi_grid()
    steps = torch.zeros(6, 6).double()
    steps[1:3] = torch.tensor([0.2, -0.15, 0.1, 8.0, -6.0, 10.0])
    steps[4] = torch.tensor([-0.15, 0.1, -0.2, -9.0, 8.0, -8.0])
    truths = [Rigid(step, grid.centre_mm) for step in steps]
    known = Known(write(tmp_path / "a.nii.gz", simulated_volumes(grid, truths), grid), grid, truths)
    found = register_series(known.path, reference_volume=0, threads=1)
    assert known.error_mm(found.transforms, range(6)) < 0.25


def test_images_of_one_slice_over_time(tmp_path: Path) -> None:
    grid = grid_about(torch.zeros(2), (120, 111), (2, 3))
    truths = motions(grid)
    path = write(tmp_path / "cine.nii.gz", simulated_volumes(grid, truths), grid)
    found = register_series(path, threads=1)
    points = head_points(grid)
    in_space = torch.cat([points, torch.zeros(len(points), 1)], dim=1)
    for transform, truth in zip(found.transforms, truths, strict=True):
        gap = transform(in_space) - torch.nn.functional.pad(truth(points), (0, 1))
        assert float(gap.norm(dim=-1).mean()) < 0.25
    found.save(tmp_path / "out")
    assert nib.load(tmp_path / "out" / "moved.nii.gz").shape == (*grid.shape, 1, COUNT)
    head = "volume,rotation_x_deg,rotation_y_deg,rotation_z_deg,translation_x_mm"
    assert (tmp_path / "out" / "motion.csv").read_text(encoding="utf-8").startswith(head)


def test_all_kinds_of_sources_give_the_same_motion(known: Known, tmp_path: Path) -> None:
    image = nib.load(known.path)
    array = np.asanyarray(image.dataobj)
    nib.save(image, tmp_path / "bold.nii")
    tensor = MetaTensor(torch.from_numpy(np.moveaxis(array, -1, 0).copy()), affine=image.affine)
    expected = register_series(known.path, threads=1).motion
    for source in (tmp_path / "bold.nii", image, tensor):
        motion = register_series(source, threads=1).motion
        assert torch.allclose(motion.rotation_deg, expected.rotation_deg, atol=1e-4)
        assert torch.allclose(motion.translation_mm, expected.translation_mm, atol=1e-4)


def test_volumes_are_read_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid, count = grid_about(torch.zeros(3), (120, 108, 96), (6, 6, 8)), 16
    truths = motions(grid, count)
    path = write(tmp_path / "long.nii.gz", simulated_volumes(grid, truths), grid)
    alive: set[int] = set()
    most, reads = 0, [0] * count
    plain = Volumes.image

    def counted(self: Volumes, n: int) -> stn3d.Image:
        nonlocal most
        image = plain(self, n)
        key = sum(reads)
        reads[n] += 1
        alive.add(key)
        weakref.finalize(image.values, alive.discard, key)
        most = max(most, len(alive))
        return image

    monkeypatch.setattr(Volumes, "image", counted)
    gc.collect()
    found = register_series(path, threads=1)
    found.save(tmp_path / "out")
    assert most <= 3
    assert max(reads) <= 3  # checked, registered, moved
    assert isinstance(found.series, Volumes)


def test_a_series_of_single_slices_moves_in_its_plane() -> None:
    size, spacing = [36.0, 3.0, 36.0], [1.0, 3.0, 1.0]
    grid = grid_about(torch.zeros(3).double(), size, spacing, (20.0, 10.0, 0.0))
    normal = grid.world_from_index[:3, 1] / 3.0
    across = grid.world_from_index[:3, 0]
    truths = [
        Rigid(torch.cat([angle * normal, shift * across]), grid.centre_mm)
        for angle, shift in ((0.0, 0.0), (0.1, 1.5), (-0.08, -2.0))
    ]
    anatomy = Anatomy(grid.centre_mm)
    volumes = [anatomy(t.inverse()(grid.points_mm())) for t in truths]
    series = nib.Nifti1Image(torch.stack(volumes, -1).numpy(), grid.world_from_index.numpy())
    found = register_series(series, reference_volume=0, threads=1)
    points = grid.points_mm().reshape(-1, 3)
    for transform, truth in zip(found.transforms, truths, strict=True):
        assert transform.ndim == 3
        assert float((transform(points) - truth(points)).norm(dim=-1).mean()) < 0.1
        assert float(((transform(points) - points) @ normal).abs().max()) < 1e-6
