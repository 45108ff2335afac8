"""Summaries of pairs: what register accepts and refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stn3d.inspection import summarise_pair
from tests.inspection.test_image import saved


def test_a_good_pair_and_one_in_other_units(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = rng.random((40, 40, 40)).astype(np.float32)
    fixed = saved(tmp_path / "f.nii.gz", array, np.diag([4.0, 4, 4, 1]))
    moving = saved(tmp_path / "m.nii.gz", array, np.diag([4.0, 4, 4, 1]))
    summary = summarise_pair(fixed, moving)
    assert summary.errors == ()
    assert summary.overlap_fraction == 1
    assert summary.centre_distance_mm == 0
    wrong = saved(tmp_path / "w.nii.gz", array, np.diag([0.004, 0.004, 0.004, 1]))
    refused = summarise_pair(fixed, wrong)
    assert len(refused.errors) == 1
    assert "unit" in refused.errors[0]
    assert any("error" in line for line in refused.lines())


def test_label_maps_several_volumes_and_no_overlap(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = rng.random((20, 20, 20)).astype(np.float32)
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[4:12, 4:12, 4:12] = 1
    far = np.diag([4.0, 4, 4, 1])
    far[:3, 3] = 500
    fixed = saved(tmp_path / "f.nii.gz", array, np.diag([4.0, 4, 4, 1]))
    notes = summarise_pair(fixed, saved(tmp_path / "labels.nii.gz", labels, far)).notes
    assert any("label map" in note for note in notes)
    assert any("hardly overlap" in note for note in notes)
    volumes = saved(tmp_path / "4d.nii.gz", np.stack([array, array], -1), np.diag([4.0, 4, 4, 1]))
    refused = summarise_pair(fixed, volumes)
    assert "volume" in refused.errors[0]
