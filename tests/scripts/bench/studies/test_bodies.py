"""The pairs of the bodies study: names of organs, landmarks, headers, and the tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.bench import paths
from scripts.bench.__main__ import main
from scripts.bench.pairs import read_pairs
from scripts.bench.studies import bodies
from scripts.bench.written_pairs import LUNGS

MAPS = """
class_map = {
    "total": {1: "spleen", 2: "lung_upper_lobe_left", 3: "lung_lower_lobe_left", 4: "vertebrae_L1",
              5: "vertebrae_S1", 6: "rib_left_1", 7: "lung_middle_lobe_right"},
    "total_mr": {1: "spleen", 2: "lung_left", 3: "lung_right", 9: "vertebrae"},
}
"""


def save(path: Path, values: Any, zoom: float = 0.4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([zoom, zoom, zoom, 1.0])
    affine[:3, 3] = zoom
    nib.save(nib.Nifti1Image(np.asarray(values), affine), path)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data like the real one: organs, lobes, and glands with landmarks."""
    folder = tmp_path / "shared" / "data"
    values = np.arange(512, dtype=np.int16).reshape(8, 8, 8)
    organs = (values // 64).astype(np.uint8)
    for kind in ("ct", "mr"):
        save(folder / "abdomen" / f"{kind}.nii.gz", values)
        save(folder / "abdomen" / f"{kind}_labels.nii.gz", organs)
    (folder / "abdomen" / "map_to_binary.py.txt").write_text(MAPS)
    for person in LUNGS:
        save(folder / "lung_mr" / f"{person}.nii.gz", values)
        save(folder / "lung_mr" / f"{person}_lobes.nii.gz", (organs % 6).astype(np.float32))
    channels = np.zeros((8, 8, 8, 2))
    channels[2:6, 2:6, 2:6, 0] = 1
    channels[3:5, 4, 2, 1] = 1
    for case in bodies.CASES:
        for kind in ("mr", "us"):
            labels = channels[..., 0] if case in (2, 5, 6) else channels
            save(folder / "prostate" / f"case{case}_{kind}.nii.gz", values.astype(np.uint8))
            save(folder / "prostate" / f"case{case}_{kind}_labels.nii.gz", labels)
    monkeypatch.setattr(paths, "SHARED", folder.parent)
    return folder


def test_organs_are_matched_by_their_names() -> None:
    maps = bodies.class_maps(MAPS)
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 7, 200])
    found = bodies.common_labels(labels, maps["total"], maps["total_mr"])
    assert found.tolist() == [0, 1, 2, 2, 9, 9, 0, 3, 0]
    same = bodies.common_labels(np.array([9, 3, 0]), maps["total_mr"], maps["total_mr"])
    assert same.tolist() == [9, 3, 0]
    with pytest.raises(SystemExit, match="has no class_map"):
        bodies.class_maps("x = 1")


def test_the_real_organs_are_found(shared_data: Path) -> None:
    (_, _, (ct, mr)), _ = bodies.abdomen(None)
    both = set(np.unique(ct.labels)) & set(np.unique(mr.labels)) - {0}
    assert {1, 2, 3, 5, 6, 15, 19, 21, 23} <= both  # spleen to aorta
    assert ct.labels.max() <= 50


def test_landmarks_are_centroids_in_mm() -> None:
    channels = np.zeros((6, 6, 6, 3))
    channels[1:4, 1:4, 1:4, 0] = 1
    channels[2:4, 3, 5, 1] = 1
    channels[0, 0, 0, 2] = 1
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (10, 20, 30)
    gland, points = bodies.gland_and_landmarks(channels, affine)
    assert gland.sum() == 27
    assert points.tolist() == [[5.0, 26.0, 45.0], [10.0, 20.0, 30.0]]
    gland, points = bodies.gland_and_landmarks(channels[..., 0], affine)
    assert (gland.sum(), points.shape) == (27, (0, 3))


def test_every_part_becomes_pairs_on_disk(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Path, bodies.Options]] = []
    monkeypatch.setattr(bodies, "measure_pairs", lambda *call: calls.append(call))
    monkeypatch.setattr(bodies, "report", lambda folder: None)
    options = ["--work", str(tmp_path / "w"), "--out", "r", "--prostate-mm", "0.8"]
    main(["bodies", "run", *options])
    ((study, folder, given),) = calls
    assert (study, folder) == ("bodies", tmp_path / "w" / "pairs")
    assert (given.tools, given.out) == (bodies.TOOLS, Path("r"))
    pairs = read_pairs(folder)
    splits = [pair["split"] for pair in pairs]
    assert {s: splits.count(s) for s in splits} == {"abdomen": 2, "lungs": 6, "prostate": 16}
    by_name = {pair["name"]: pair for pair in pairs}
    assert "fixed_points" not in by_name["prostate-2-mr-us"]
    pair = by_name["prostate-0-us-mr"]
    image: Any = nib.load(pair["fixed"])
    assert np.allclose(image.affine, np.diag([0.8, 0.8, 0.8, 1]))
    assert np.allclose(image.get_qform(), image.get_sform())
    assert image.get_data_dtype() == np.float32
    table = Path(pair["moving_points"]).read_text(encoding="utf-8").split()
    assert table[0] == "x,y,z"
    assert np.allclose([float(x) for x in table[1].split(",")], [0.8 * 3.5, 3.2, 1.6])
    labels: Any = nib.load(by_name["abdomen-mr-ct"]["moving_labels"])
    assert np.unique(labels.dataobj).tolist() == [0, 1, 2, 3, 9]
    labels = nib.load(by_name["abdomen-mr-ct"]["fixed_labels"])
    assert np.unique(labels.dataobj).tolist() == [0, 1, 2, 3]


def test_an_unknown_part_and_missing_data_are_reported(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no 'knee'"):
        main(["bodies", "run", "--work", str(tmp_path), "--out", "r", "--parts", "lungs,knee"])
    (data / "lung_mr" / "0006_lobes.nii.gz").unlink()
    with pytest.raises(SystemExit, match=r"No file .*0006_lobes.nii.gz"):
        main(["bodies", "run", "--work", str(tmp_path), "--out", "r", "--parts", "lungs"])
