"""Label maps and images are distinguished by header, name and values."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from stn3d.io import open_volumes
from stn3d.warp import label_maps
from stn3d.warp.label_maps import Decision, by_values, decide

RNG = np.random.default_rng(0)
SHAPE = (40, 40, 40)


def noise(low: int, high: int) -> np.ndarray:
    return RNG.integers(low, high, (20, 20, 20))


def ct() -> np.ndarray:
    """A body in constant air, as after padding or defacing."""
    array = np.full(SHAPE, -1024)
    array[10:30, 10:30, 10:30] = RNG.normal(40, 300, (20, 20, 20)).round()
    return array


def ct_of_three_constants() -> np.ndarray:
    """Outside of the scanner's circle, air, saturated metal."""
    array = ct()
    array[:4] = -3024
    array[15:18, 15:18, 15:18] = 3071
    return array


def stripped() -> np.ndarray:
    """A brain of whole numbers on 0."""
    array = np.zeros(SHAPE, int)
    smooth = ndimage.gaussian_filter(RNG.normal(size=(20, 20, 20)), 2)
    array[10:30, 10:30, 10:30] = 100 + 40 * smooth / smooth.std()
    return array


def landmarks() -> np.ndarray:
    array = np.zeros(SHAPE, int)
    array[tuple(RNG.integers(2, 38, (3, 12)))] = np.arange(1, 13)
    return array


def centre_line() -> np.ndarray:
    """Another number in each slice."""
    array = np.zeros(SHAPE, int)
    at = np.arange(40)
    array[20 + at // 9, 20 - at // 7, at] = at + 1
    return array


def thin_layers() -> np.ndarray:
    """Three layers of one voxel each."""
    radius = np.linalg.norm(np.indices(SHAPE) - 19.5, axis=0)
    return np.where((radius > 10) & (radius < 13), radius.astype(int) - 9, 0)


def regions(count: int, first: int = 1) -> np.ndarray:
    """Regions nearest to random points, in a ball."""
    points = RNG.uniform(0, 40, (count, 3))
    at = np.stack(np.indices(SHAPE), -1).reshape(-1, 3)
    nearest = ((at[:, None] - points[None]) ** 2).sum(-1).argmin(1).reshape(SHAPE)
    inside = np.linalg.norm(np.indices(SHAPE) - 19.5, axis=0) < 18
    return np.where(inside, nearest + first, 0)


LABELS = {
    "landmarks": landmarks(),
    "centre line": centre_line(),
    "thin layers": thin_layers(),
    "mask": (stripped() > 100).astype(int),
    "few regions": regions(5),
    "many small regions": regions(600),
    "ids of an atlas": regions(100, 614_454_277),
    "no background": regions(5) + 1,
    "negative": -regions(7),
}
IMAGES = {
    "CT": ct(),
    "CT of three constants": ct_of_three_constants(),
    "stripped brain": stripped(),
    "8 bits of noise": RNG.integers(0, 256, SHAPE),
    "few grey values": RNG.integers(0, 8, SHAPE),
    "smooth": (40 * ndimage.gaussian_filter(RNG.normal(size=SHAPE), 8) * 40).round().astype(int),
    "ramp": np.broadcast_to(np.arange(40), SHAPE) // 2 + np.arange(40)[:, None, None],
}


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float64])
def test_labels(name: str, dtype: torch.dtype) -> None:
    decision = by_values(torch.from_numpy(LABELS[name])[None, None].to(dtype))
    assert decision.labels, decision.reason


def test_labels_in_single_voxels_are_found() -> None:
    for name, array in LABELS.items():
        expected = name in ("landmarks", "centre line")
        for values in (array, (array != 0) * 3):
            decision = by_values(torch.from_numpy(values)[None, None])
            assert decision.scattered is expected, name


@pytest.mark.parametrize("name", IMAGES)
def test_images(name: str) -> None:
    decision = by_values(torch.from_numpy(IMAGES[name].copy())[None, None])
    assert not decision.labels, decision.reason


def test_fractions_are_never_labels() -> None:
    labels = torch.from_numpy(regions(5))[None, None].double()
    assert by_values(labels + 1e-9).labels  # a rounding error of scaled files
    assert not by_values(labels + 0.25).labels
    assert by_values(labels * 7e-4) == Decision(False, "holds fractions")  # not all 0


def test_a_sample_of_a_large_image_decides_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_maps, "_SAMPLE", 30_000)
    for cases, expected in ((LABELS, True), (IMAGES, False)):
        for name, array in cases.items():
            values = torch.from_numpy(array.copy())[None, None]
            assert by_values(values).labels is expected, name


def saved(path: Path, array: np.ndarray, intent: str = "none") -> Path:
    image = nib.Nifti1Image(array.astype(np.int32), np.eye(4))
    image.header.set_intent(intent)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("name", "intent", "expected", "reason"),
    [
        ("a.nii", "none", False, "holds 8 values and"),
        ("sub-1_dseg.nii.gz", "none", True, "says dseg"),
        ("sub-1_desc-brain_mask.nii.gz", "none", True, "says mask"),
        ("lesion-Labels.nii", "none", True, "says labels"),
        ("aparc+aseg.nii", "none", True, "says aparc"),
        ("seg_probseg.nii.gz", "none", False, "says probseg"),
        ("sub-1_label-GM_probseg.nii.gz", "none", False, "says probseg"),
        ("space-seg_T1w.nii.gz", "none", False, "holds 8 values"),
        ("masked.nii", "none", False, "holds 8 values"),
        ("a.nii", "label", True, "NIfTI intent of .* is label"),
        ("a.nii", "neuroname", True, "NIfTI intent"),
        ("sub-1_dseg.nii", "z score", False, "is statistic"),
    ],
)
def test_header_and_name_decide(
    tmp_path: Path, name: str, intent: str, expected: bool, reason: str
) -> None:
    decision = decide(open_volumes(saved(tmp_path / name, IMAGES["few grey values"], intent)))
    assert decision.labels is expected
    assert not decision.scattered
    assert re.search(reason, decision.reason)


@pytest.mark.parametrize(("name", "intent"), [("labels.nii", "none"), ("a.nii", "label")])
def test_landmarks_by_header_or_name_are_scattered(tmp_path: Path, name: str, intent: str) -> None:
    decision = decide(open_volumes(saved(tmp_path / name, LABELS["landmarks"], intent)))
    assert (decision.labels, decision.scattered) == (True, True)


def test_fractions_override_the_name(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(4, 4, 4)), np.eye(4))
    nib.save(image, tmp_path / "a_dseg.nii")
    decision = decide(open_volumes(tmp_path / "a_dseg.nii"))
    assert decision == Decision(False, f"{tmp_path / 'a_dseg.nii'} holds fractions")


def test_all_volumes_are_looked_at(tmp_path: Path) -> None:
    empty = np.zeros(SHAPE, int)
    for last, expected in ((regions(5), True), (IMAGES["CT"], False), (empty, True)):
        path = saved(tmp_path / "a.nii", np.stack([empty, regions(3), last], -1))
        assert decide(open_volumes(path)).labels is expected
    path = saved(tmp_path / "b.nii", np.stack([empty, empty], -1))
    assert decide(open_volumes(path)) == Decision(False, f"{path} holds only 0")
