"""Volumes of structures, counted by hand."""

from __future__ import annotations

import csv
import math

import pytest
import torch

from stn3d.grid import Grid, homogeneous
from stn3d.segmentation.volumes import COLUMNS, structure_volumes, volumes_csv
from stn3d.structures import STRUCTURES
from tests.helpers.brain import brain_segmentation
from tests.helpers.geometry_cases import rotation


def test_volumes_are_voxels_times_their_volume() -> None:
    """On an oblique grid of 2 x 3 x 5 mm."""
    linear = rotation(3, (10, 20, 30)) @ torch.diag(torch.tensor([2.0, 3, 5]).double())
    grid = Grid((4, 5, 6), homogeneous(linear, torch.zeros(3).double()))
    classes = torch.zeros(1, 1, 4, 5, 6, dtype=torch.uint8)
    classes[0, 0, :2, :3, :4] = 4
    classes[0, 0, 3, 4, 5] = len(STRUCTURES) - 1
    found = {one.name: one for one in structure_volumes(classes, grid)}
    assert list(found) == [one.full_name for one in STRUCTURES[1:]]
    white = found["left cerebral white matter"]
    assert (white.index, white.voxels, white.volume_ml) == (2, 24, pytest.approx(24 * 0.03))
    assert found["brain stem"].volume_ml == pytest.approx(0.03)
    assert found["left thalamus"].volume_ml == 0


def test_the_table_agrees_with_the_label_map() -> None:
    result = brain_segmentation()
    rows = list(csv.DictReader(volumes_csv(result.rows()).splitlines()))
    assert tuple(rows[0]) == COLUMNS
    labels, size = result.labels.values, math.prod(result.labels.grid.spacing_mm) / 1000
    for row in rows:
        count = int((labels == int(row["index"])).sum())
        assert float(row["volume_ml"]) == pytest.approx(count * size, abs=1e-4)
        assert float(row["brain_mask_ml"]) == pytest.approx(
            int(result.mask.values.sum()) * size, abs=1e-3
        )
    total = sum(float(row["volume_ml"]) for row in rows if int(row["index"]) not in (24, 165, 258))
    assert 1000 < total < result.brain_mask_ml < 2100
