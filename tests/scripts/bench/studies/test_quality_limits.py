"""Landmarks, mirrored images and the tables of the measures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.bench.store import Results, write
from scripts.bench.studies import quality_limits
from stn3d import read_image
from tests.registration.test_quality import SOUND


def test_centroids_are_those_of_structures_with_many_voxels(tmp_path: Path) -> None:
    labels = np.zeros((12, 14, 16), np.float32)
    labels[2:6, 3:7, 4:8] = 5.0
    labels[9, 9, 9] = 7.001  # a point
    affine = np.diag([-2.0, 1.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "labels.nii.gz")
    found = quality_limits.centroids(tmp_path / "labels.nii.gz", points=False)
    assert found.keys() == {5}
    assert found[5].tolist() == pytest.approx([-7.0, 4.5, 16.5])
    found = quality_limits.centroids(tmp_path / "labels.nii.gz", points=True)
    assert found[7].tolist() == pytest.approx([-18.0, 9.0, 27.0])


def test_each_volume_of_a_4d_file_is_a_structure(tmp_path: Path) -> None:
    labels = np.zeros((8, 8, 8, 2), np.uint8)
    labels[0:4, 0:4, 0:4, 0] = labels[4:8, 4:8, 4:8, 1] = 1
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "labels.nii.gz")
    found = quality_limits.centroids(tmp_path / "labels.nii.gz", points=False)
    assert [point.tolist() for point in found.values()] == [[1.5] * 3, [5.5] * 3]


def test_a_mirrored_image_has_its_left_voxels_on_the_right(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    affine = np.array([[0, 0, -1.0, 5], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # x: last axis
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "image.nii.gz")
    image = read_image(tmp_path / "image.nii.gz")
    voxels, grid = quality_limits.mirrored(image)
    assert torch.equal(voxels, torch.from_numpy(values[..., ::-1].copy()))
    assert torch.equal(grid.world_from_index, image.grid.world_from_index)


def row(mirrored: bool, advantage: float | None, p999: float = 1.0) -> dict[str, Any]:
    changes = {"mirror_advantage_fraction": advantage, "abs_log_jacobian_p999": p999}
    measures = dataclasses.asdict(dataclasses.replace(SOUND, **changes))
    pair = next(quality_limits.chosen_with())
    common = {"pair": pair.name, "mirrored": mirrored, "kind": pair.kind, "use": pair.use}
    each = {"mean": 0.01, "max": 0.1}
    found = {"count": 136, "before": each, "linear": each, "result": each}
    landmarks = {} if mirrored else {"landmarks": found}
    return common | {"status": "good", "measures": measures} | landmarks


def test_rows_become_tables(tmp_path: Path) -> None:
    rows = [row(False, -0.02), row(False, None, 3.5), row(True, 0.3)]
    write(
        tmp_path / "results.json",
        Results(
            "quality_limits",
            {
                "machine": "a machine",
                "versions": {"python": "3.11"},
                "command": "quality_limits run",
            },
            rows,
        ),
    )
    quality_limits.report(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf8")
    assert "| chosen with | brains | 2 | 2.25 | 3.50 | 0.7 | 1 |" in page
    assert "| chosen with | brains | as it is | 2 | -0.020 | -0.020 | -0.020 | 0 |" in page
    assert "| chosen with | brains | mirrored | 1 | 0.300 | 0.300 | 0.300 | 1 |" in page
    assert "| good | 136 | 1.0 | 1.0 | 1.0 | 10.0 | 10.0 | 10.0 |" in page
