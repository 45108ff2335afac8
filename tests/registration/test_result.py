"""The result of a registration, and the files that it writes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import stn3d
import stn3d.registration.result
from stn3d.errors import InputError
from stn3d.registration.outputs import Outputs
from stn3d.registration.result import Registration
from tests.helpers import sitk_reference
from tests.helpers.geometry_cases import DIMS
from tests.helpers.synthetic import Known, grid_about, known_pair, linear_truth

QUICK = {"linear": {"iterations": 25}, "deformable": {"factors": [4, 2], "iterations": [20, 10]}}


@pytest.fixture(scope="module", params=DIMS)
def registered(request: pytest.FixtureRequest) -> tuple[Known, Registration]:
    """Oblique against plain; the shift is known to the headers only in part."""
    ndim = request.param
    zeros = torch.zeros(ndim).double()
    shift = torch.tensor([5.0, -4, 3]).double()[:ndim]
    fixed = grid_about(zeros, [36] * ndim, [1, 1.3, 2][:ndim], (15, -10, 20), True)
    moving = grid_about(shift, [42] * ndim, [1.2] * ndim, (-20, 10, 5))
    known = known_pair(linear_truth("affine", zeros, shift, 8), fixed, moving)
    return known, stn3d.register(*known.sources, config=QUICK, threads=1)


def test_saved_files_say_what_the_registration_says(
    registered: tuple[Known, Registration], tmp_path: Path
) -> None:
    known, result = registered
    folder = tmp_path / "new" / "folder"
    result.save(folder)
    names = sorted(p.name for p in folder.iterdir())
    assert names == [
        "inverse.h5", "metrics.json", "moved.nii.gz", "report.html", "report.png", "transform.h5",
    ]  # fmt: skip
    points = known.fixed_grid.points_mm().flatten(0, -2)[::7]
    for name, transform in (("transform.h5", result.transform), ("inverse.h5", result.inverse)):
        assert (
            float((stn3d.read_transform(folder / name)(points) - transform(points)).abs().max())
            < 1e-4
        )
    expected = sitk_reference.mapped(sitk.ReadTransform(str(folder / "transform.h5")), points)
    assert float((result.transform(points) - expected).abs().max()) < 1e-4
    moved = sitk_reference.resampled(
        sitk_reference.image_of(known.moving, known.moving_grid),
        known.fixed_grid,
        sitk.ReadTransform(str(folder / "transform.h5")),
        sitk.sitkLinear,
        0,
    )
    gap = (moved - result.moved.values).square().mean().sqrt()
    assert float(gap) <= 0.002 * float(torch.quantile(moved.flatten(), 0.99))
    image = nib.load(folder / "moved.nii.gz")
    assert np.allclose(np.squeeze(image.get_fdata()), result.moved.values[0, 0].numpy())
    saved = json.loads((folder / "metrics.json").read_text(encoding="utf8"))
    assert saved["after"] == result.metrics["after"]


def test_results_of_an_earlier_run_do_not_remain(
    registered: tuple[Known, Registration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, result = registered
    for name in ("note.txt", "jacobian.nii.gz"):
        (tmp_path / name).write_text("mine", encoding="utf8")
    result.save(tmp_path, Outputs(image_suffix=".nrrd"))
    assert (tmp_path / "jacobian.nii.gz").read_text(encoding="utf8") == "mine"  # no results then
    (tmp_path / "moved_dicom").mkdir()
    (tmp_path / "moved_dicom" / "0001.dcm").touch()
    dice, labels = (tmp_path / f"moved_{what}.nii.gz" for what in ("dice", "labels"))
    dice.touch()
    labels.touch()
    sources = {"image": "gone.nii.gz", "labels": str(labels)}
    monkeypatch.setitem(result.metrics["moving"], "sources", sources)
    files = result.save(tmp_path, Outputs(report=False))
    assert {*tmp_path.iterdir()} == {*files, tmp_path / "note.txt", dice, labels}  # an input


def test_saving_is_all_or_nothing(
    registered: tuple[Known, Registration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, result = registered
    (tmp_path / "metrics.json").write_text("older", encoding="utf8")

    def no_space(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", no_space)
    with pytest.raises(InputError, match="No space left"):
        result.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
    assert (tmp_path / "metrics.json").read_text(encoding="utf8") == "older"


def test_a_file_that_fails_leaves_no_other_behind(
    registered: tuple[Known, Registration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, result = registered
    write = stn3d.registration.result.write_image

    def full(*_: Any) -> None:
        raise InputError("No space left")

    def late(*arguments: Any) -> None:
        time.sleep(0.2)  # the others have failed by then
        write(*arguments)

    monkeypatch.setattr(stn3d.registration.result, "write_transform", full)
    monkeypatch.setattr(stn3d.registration.result, "write_image", late)
    with pytest.raises(InputError, match="No space left"):
        result.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_saved_twice_are_equal_bytes(
    registered: tuple[Known, Registration], tmp_path: Path
) -> None:
    _, result = registered
    first, second = result.save(tmp_path / "a"), result.save(tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    stn3d.write_transform(tmp_path / "alone.h5", result.transform)
    assert (tmp_path / "alone.h5").read_bytes() == (tmp_path / "a/transform.h5").read_bytes()


def test_a_folder_that_cannot_be_is_named(
    registered: tuple[Known, Registration], tmp_path: Path
) -> None:
    _, result = registered
    (tmp_path / "file").write_text("", encoding="utf8")
    with pytest.raises(InputError, match="cannot make the folder"):
        result.save(tmp_path / "file")
    (tmp_path / "taken" / "inverse.h5").mkdir(parents=True)
    with pytest.raises(InputError, match=r"inverse\.h5"):
        result.save(tmp_path / "taken")
    assert [p.name for p in (tmp_path / "taken").iterdir()] == ["inverse.h5"]
