"""Metrics of labels: what is measured, what is omitted, by both protocols, against SimpleITK."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from stn3d.errors import InputError
from stn3d.evaluation import EvaluationOptions, LabelMetrics, measure_labels
from stn3d.grid import Grid

GRID = Grid.of_spacing((30, 28), (1.0, 2.0))


def two_maps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fixed, moved and moving: label 1 overlaps, 2 is lost, 3 is small, 4 is in one map."""
    fixed, moving = np.zeros((30, 28), int), np.zeros((40, 30), int)
    fixed[5:20, 3:15], fixed[20:30, 15:28], fixed[0, 0:3], fixed[2, 20:24] = 1, 2, 3, 4
    moving[5:20, 5:17], moving[30:40, 20:30], moving[0, 0:3] = 1, 2, 3
    return fixed, moving[:30, :28] * (moving[:30, :28] != 2), moving


def test_a_lost_label_counts_in_overlap_and_is_omitted_from_distances() -> None:
    fixed, moved, moving = two_maps()
    options = EvaluationOptions(tolerance_mm=1.0, names={2: "tip"})
    found = measure_labels(fixed, moved, moving, GRID, options)
    assert list(found.labels) == [1, 2]
    assert set(found.omitted) == {2, 3, 4}
    assert found.omitted[2] == "distances are not defined: not in the moved label map"
    assert found.omitted[4] == "not in the moving label map"
    lost, kept = found.labels[2], found.labels[1]
    assert (lost.dice, lost.nsd, lost.moving_voxels, lost.moved_voxels) == (0, 0, 100, 0)
    assert lost.hd95_mm is not None
    assert math.isnan(lost.hd95_mm)
    assert found.mean("dice") == pytest.approx(kept.dice / 2)
    assert found.mean("hd95_mm") == kept.hd95_mm == pytest.approx(4)  # 2 columns of 2 mm
    assert found.mean("hd95_vox") is None
    assert (kept.name, lost.name) == (None, "tip")
    assert "hd95_vox" not in kept.to_dict()


def test_learn2reg_measures_all_labels_in_voxels() -> None:
    fixed, moved, moving = two_maps()
    found = measure_labels(fixed, moved, moving, GRID, EvaluationOptions("l2r"))
    assert list(found.labels) == [1, 2, 3]
    assert found.labels[1].hd95_vox == pytest.approx(2)  # columns
    assert found.labels[2].hd95_vox == found.mean("hd95_vox") == math.inf
    assert found.mean("hd95_mm") is None


def test_labels_that_are_chosen_and_moved_labels_alone() -> None:
    fixed, moved, _ = two_maps()
    options = EvaluationOptions(labels=[3, 1, 7], tolerance_mm=0.0)
    found = measure_labels(fixed, moved, None, GRID, options)
    assert list(found.labels) == [3, 1]
    assert found.omitted == {7: "in neither label map"}
    assert found.labels[3].moving_voxels is None
    assert found.labels[3].dice == found.labels[3].nsd == 1
    assert list(measure_labels(fixed, moved, None, GRID, EvaluationOptions()).labels) == [1, 2]
    large = EvaluationOptions(labels=[1, 3], min_voxels=10)
    assert found.labels[1] == measure_labels(fixed, moved, None, GRID, options).labels[1]
    assert list(measure_labels(fixed, moved, None, GRID, large).labels) == [1]
    empty = np.zeros_like(fixed)
    nothing = measure_labels(empty, empty, empty, GRID, EvaluationOptions())
    assert nothing.labels == nothing.omitted == {}
    assert math.isnan(nothing.mean("dice"))  # type: ignore[arg-type]


@pytest.mark.parametrize("d", [2, 3])
def test_dice_and_volumes_are_those_of_simpleitk(d: int) -> None:
    rng = np.random.default_rng(3)
    fixed, moved = (np.kron(rng.integers(0, 4, (4,) * d), np.ones((6,) * d, int)) for _ in "ab")
    moved = ndimage.shift(moved, [2] * d, order=0)
    found = measure_labels(fixed, moved, moved, Grid.of_spacing(fixed.shape), EvaluationOptions())
    theirs = sitk.LabelOverlapMeasuresImageFilter()
    theirs.Execute(*(sitk.GetImageFromArray(m.astype(np.int32)) for m in (moved, fixed)))
    for label, one in found.labels.items():
        assert one.dice == pytest.approx(theirs.GetDiceCoefficient(label), abs=1e-6)
        similarity = 2 * (one.moved_voxels - one.fixed_voxels)
        similarity /= one.moved_voxels + one.fixed_voxels
        assert similarity == pytest.approx(theirs.GetVolumeSimilarity(label), abs=1e-6)


@pytest.mark.parametrize(
    "bad", [{"protocol": "l2"}, {"min_voxels": 0}, {"tolerance_mm": -1.0}, {"labels": []}]
)
def test_bad_options_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        EvaluationOptions(**bad)  # type: ignore[arg-type]


def test_a_label_has_no_metrics_that_were_not_measured() -> None:
    one = LabelMetrics(5, 4, 3, 0.5)
    assert one.to_dict() == {"fixed_voxels": 5, "moving_voxels": 4, "moved_voxels": 3, "dice": 0.5}
