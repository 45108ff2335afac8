"""The files of a segmentation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from stn3d.errors import InputError
from stn3d.segmentation import SegmentationOutputs
from stn3d.segmentation import result as module
from stn3d.structures import STRUCTURES
from tests.helpers.brain import brain, brain_segmentation


def test_files_lie_on_the_grid_of_the_image_and_agree(tmp_path: Path) -> None:
    result = brain_segmentation()
    outputs = SegmentationOutputs(probabilities=True, uncertainty=True)
    files = result.save(tmp_path / "out", outputs)
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    names = {path.name for path in files}
    assert names == {
        *("labels.nii.gz", "mask.nii.gz", "probabilities.nii.gz", "uncertainty.nii.gz"),
        *("labels.tsv", "volumes.csv", "volumes.json", "segmentation.png"),
    }
    read = {n: nib.load(tmp_path / "out" / n) for n in names if n.endswith(".nii.gz")}
    for one in read.values():
        assert one.shape[:3] == brain().grid.shape
        assert np.allclose(one.affine, brain().affine)
    labels, mask = (np.asarray(read[f"{n}.nii.gz"].dataobj) for n in ("labels", "mask"))
    assert labels.dtype == np.int16
    assert mask.dtype == np.uint8
    assert np.array_equal(labels, result.labels.numpy())
    p = read["probabilities.nii.gz"].get_fdata()
    assert p.shape[3] == len(STRUCTURES)
    exact = result.probabilities().numpy()
    assert np.abs(p - exact).max() < 0.5 / 255 + 1e-6
    inside = exact.sum(axis=-1) > 0.5
    assert np.allclose(exact[inside].sum(axis=-1), 1, atol=1e-5)
    ids = np.array([one.label for one in STRUCTURES])
    assert np.mean(ids[exact.argmax(axis=-1)] == labels) > 0.9999
    u = read["uncertainty.nii.gz"].get_fdata()
    assert 0 <= u.min() < u.max() <= 1
    assert np.abs(u - result.uncertainty().numpy()).max() < 0.5 / 255 + 1e-6
    content = json.loads((tmp_path / "out" / "volumes.json").read_text(encoding="utf-8"))
    assert content == json.loads(json.dumps(result.to_dict()))
    assert list(content)[:4] == ["image", "quality", "brain_mask_ml", "structures"]
    assert list(content)[4:] == ["is_ct", "network", "device", "timings_s", "versions"]
    assert content["network"]["spacing_mm"] == 2.0
    assert content["quality"]["measures"]["brain_mask_ml"] == content["brain_mask_ml"]
    voxel_mm3 = abs(np.linalg.det(brain().affine))
    assert content["brain_mask_ml"] == pytest.approx(mask.sum() * voxel_mm3 / 1000, abs=1e-3)


def test_results_of_an_earlier_run_do_not_remain(tmp_path: Path) -> None:
    result = brain_segmentation()
    (tmp_path / "uncertainty.nii.gz").write_text("not a result")
    quick = SegmentationOutputs(picture=False)
    result.save(tmp_path, quick)
    assert (tmp_path / "uncertainty.nii.gz").exists()  # of somebody else: there were no results
    (tmp_path / "note.txt").write_text("mine")
    result.save(tmp_path, SegmentationOutputs(probabilities=True))
    files = result.save(tmp_path, replace(quick, image_suffix=".nrrd"))
    assert {*tmp_path.iterdir()} == {*files, tmp_path / "note.txt"}
    own = replace(result, image=replace(result.image, name=str(tmp_path / "labels.nrrd")))
    own.save(tmp_path, quick)
    assert (tmp_path / "labels.nrrd").exists()  # an input
    assert not (tmp_path / "mask.nrrd").exists()


def test_nothing_is_written_if_a_file_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_picture", fail)
    with pytest.raises(InputError, match="No space left"):
        brain_segmentation().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_formats_and_a_description(tmp_path: Path) -> None:
    result = brain_segmentation()
    files = result.save(tmp_path, SegmentationOutputs(image_suffix=".nrrd", picture=False))
    assert {path.suffix for path in files} == {".nrrd", ".tsv", ".csv", ".json"}
    assert repr(result).startswith("SegmentationResult(of ")
    assert "status good" in repr(result)
    with pytest.raises(InputError, match="image-format"):
        SegmentationOutputs(image_suffix=".png")  # type: ignore[arg-type]
