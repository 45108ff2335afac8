"""`stn3d.evaluate` on files and on data in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import stn3d
from stn3d.errors import InputError
from stn3d.io import read_image, read_labels
from stn3d.scoring import PairData, evaluate_data
from tests.evaluation.cases import shifted
from tests.scoring.cases import write_pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pair(tmp_path)
    return tmp_path


def test_files_and_data_in_memory_have_the_same_metrics(folder: Path) -> None:
    labels = folder / "fixed_labels.nii.gz", folder / "moving_labels.nii.gz"
    points = folder / "fixed.csv", folder / "moving.csv"
    files = stn3d.evaluate(
        folder / "fixed.nii.gz",
        folder / "moving.nii.gz",
        folder / "good.h5",
        labels=labels,
        landmarks=points,
        inverse=f"inverse:{folder / 'good.h5'}",
        true_transform=folder / "half.h5",
    )
    memory = stn3d.evaluate(
        read_image(folder / "fixed.nii.gz"),
        stn3d.RegistrationImage(folder / "moving.nii.gz", labels=labels[1], landmarks=points[1]),
        shifted(2, 4.0),
        labels=(read_labels(labels[0]), read_labels(labels[1])),
        landmarks=points,
        inverse=shifted(2, -4.0),
        true_transform=shifted(2, 2.0).matrix,
    )
    assert files.to_dict() == memory.to_dict()
    assert files.dice == files.labels[1].dice > 0.95
    assert files.tre_mm is not None
    assert files.tre_mm["worst30"] < 1e-3
    assert files.landmark_robustness == 1
    assert files.true_error_mm is not None
    assert files.true_error_mm["mean"] == pytest.approx(2)
    assert files.nsd is None
    assert files.omitted_labels == {}
    json.dumps(files.to_dict(), allow_nan=False)


def test_without_a_transform_the_headers_are_measured(folder: Path) -> None:
    found = stn3d.evaluate(folder / "fixed.nii.gz", folder / "moving.nii.gz")
    assert found.to_dict()["correlation"] < 0.9
    assert (found.dice, found.tre_mm, found.labels) == (None, None, {})
    assert found.to_dict()["protocol"] == "strict"


def test_learn2reg_is_computed_in_the_whole_image(folder: Path) -> None:
    options = stn3d.EvaluationOptions("l2r", tolerance_mm=1.0)
    images = folder / "fixed.nii.gz", folder / "moving.nii.gz"
    found = stn3d.evaluate(*images, folder / "good.h5", options=options).to_dict()
    assert found["region"]["name"] == "image"
    assert found["sdlogj"] == pytest.approx(0, abs=1e-6)
    assert "log_jacobian_sd" not in found


def test_moved_labels_of_another_tool_have_the_metrics_of_the_transform(folder: Path) -> None:
    labels = folder / "fixed_labels.nii.gz", folder / "moving_labels.nii.gz"
    ours = stn3d.evaluate(
        folder / "fixed.nii.gz", folder / "moving.nii.gz", folder / "half.h5", labels=labels
    )
    data = PairData(
        fixed_labels=labels[0], moved_labels=folder / "half_moved.nii.gz", moving_labels=labels[1]
    )
    theirs = evaluate_data(data)
    assert theirs.labels == ours.labels
    assert theirs.image == theirs.jacobian == {}
    assert set(theirs.to_dict()) == {
        *("protocol", "dice", "hd95_mm", "hd95_pooled_mm", "hausdorff_mm", "assd_mm"),
        *("labels", "omitted_labels"),
    }


def test_data_that_do_not_fit_are_refused(folder: Path) -> None:
    labels, images = folder / "fixed_labels.nii.gz", folder / "fixed.nii.gz"
    for data, words in (
        (PairData(fixed=images), "no images"),
        (PairData(moved_labels=labels), "no fixed labels"),
        (PairData(fixed_labels=labels, moved_labels=folder / "moving_labels.nii.gz"), "grid"),
        (
            PairData(fixed_labels=labels, moved_labels=labels, transform=folder / "good.h5"),
            "warped already",
        ),
        (PairData(images, images, shifted(3, 1.0)), "3D and the images are 2D"),
    ):
        with pytest.raises(InputError, match=words):
            evaluate_data(data)
