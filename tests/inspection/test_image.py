"""Summaries of images: geometry, scaling, contents, and what is unusual."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from stn3d.inspection import summarise_image


def saved(path: Path, array: np.ndarray, affine: np.ndarray, **codes: int) -> Path:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, codes.get("sform", 1))
    image.set_qform(affine, codes.get("qform", 1))
    nib.save(image, path)
    return path


def test_geometry_scaling_and_volumes(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 900, (20, 24, 12, 3)).astype(np.int16)
    path = saved(tmp_path / "a.nii.gz", array, np.diag([-1.0, 1, 3, 1]))
    header = nib.load(path).header.copy()
    header.set_slope_inter(0.5, -10)
    image = nib.Nifti1Image(array, None, header)
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, path)
    summary = summarise_image(path)
    assert summary.shape == (20, 24, 12)
    assert summary.volumes == 3
    assert summary.orientation == "LAS"
    assert summary.dtype == "int16"
    assert summary.scaling == (0.5, -10.0)
    assert summary.codes == {"sform": 1, "qform": 1}
    text = "\n".join(summary.lines())
    assert "3 volumes" in text
    assert "value = 0.5 x stored + -10" in text
    assert "3.0 times as long" in text


def test_an_oblique_sheared_image(tmp_path: Path) -> None:
    angle = np.radians(20)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn
    affine[0, 2] += 0.2
    image = nib.Nifti1Image(np.random.default_rng(0).random((16, 16, 16), np.float32), affine)
    nib.save(image, tmp_path / "b.nii.gz")
    summary = summarise_image(tmp_path / "b.nii.gz")
    assert summary.oblique_deg == pytest.approx(20, abs=0.1)
    assert any("not orthogonal" in note for note in summary.notes)
    assert any("no unit of length" in note for note in summary.notes)


def test_what_the_intensities_look_like(tmp_path: Path) -> None:
    labels = np.zeros((30, 30, 30), np.int16)
    labels[5:15, 5:15, 5:15], labels[15:25, 5:15, 5:15] = 3, 17
    found = summarise_image(saved(tmp_path / "l.nii.gz", labels, np.eye(4))).intensities
    assert found.labels == 2
    rng = np.random.default_rng(0)
    ct = rng.normal(-1000, 15, (30, 30, 30)).astype(np.int16)
    ct[8:22, 8:22, 8:22] = rng.normal(40, 20, (14, 14, 14))
    assert summarise_image(saved(tmp_path / "ct.nii.gz", ct, np.eye(4))).intensities.ct
    holes = rng.random((20, 20, 20)).astype(np.float32)
    holes[:2, 0, 0] = np.nan
    summary = summarise_image(saved(tmp_path / "n.nii.gz", holes, np.eye(4)))
    assert summary.intensities.not_finite == 2
    assert any("NaN" in note for note in summary.notes)


def test_notes_of_the_reader_are_kept(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    path = saved(tmp_path / "none.nii", array, np.eye(4), sform=0, qform=0)
    assert any("no orientation" in note for note in summarise_image(path).notes)
