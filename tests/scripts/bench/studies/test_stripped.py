"""The images of the study of stripped brains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.bench.studies import stripped


def test_halved_voxels_are_means_at_the_centres_of_their_blocks() -> None:
    affine = np.diag([-1.0, 1, 1, 1])
    values = np.arange(5 * 4 * 2, dtype=float).reshape(5, 4, 2)
    found, coarse = stripped.halved(values, affine)
    assert found.shape == (2, 2, 1)
    assert found[1, 0, 0] == pytest.approx(values[2:4, :2, :2].mean())
    centre = affine @ [2.5, 0.5, 0.5, 1]
    np.testing.assert_allclose(coarse @ [1, 0, 0, 1], centre)


def test_hounsfield_units_of_air_water_and_bone() -> None:
    found = stripped.hounsfield(np.array([0.0, 1024, 900, 3100, 3500]))
    assert found[0] == -1024
    assert found[2] == -124
    assert (np.diff(found[[0, 2, 1, 3, 4]]) > 0).all()
    assert found[4] - found[3] == 400


def test_only_the_largest_part_is_filled() -> None:
    voxels = np.zeros((9, 9, 9), bool)
    voxels[1:6, 1:6, 1:6] = True
    voxels[3, 3, 3] = False
    voxels[8, 8, 8] = True
    assert stripped.filled(voxels).sum() == 125


def test_a_stripped_head_is_constant_outside_of_its_brain(shared_data: Path) -> None:
    whole, brain = stripped.head("ct"), stripped.head("ct*")
    outside = whole.labels == 0
    assert (brain.values[outside] == stripped.AIR_HU).all()
    assert (brain.values[~outside] == whole.values[~outside]).all()
    assert whole.values[outside].max() > 500  # bone
