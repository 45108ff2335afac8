"""The pairs of the contrasts study: their truth, and that they are made once or not at all."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.bench import paths
from scripts.bench.__main__ import main
from scripts.bench.known_truth import make_contrast_pair
from scripts.bench.pairs import read_pairs
from scripts.bench.studies import contrasts
from scripts.bench.tools import OTHER_TOOLS, STN3D
from stn3d.io import read_image, read_transform
from stn3d.warp import warp_image

MAKER = """
import sys
from pathlib import Path
out = Path(sys.argv[2])
out.mkdir(parents=True)
(out / "moving.nii.gz").write_text(" ".join(sys.argv))
{fails}
(out / "truth.h5").touch()
"""


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a person's contrasts, and a make_truth.py that writes its arguments."""
    folder = tmp_path / "shared"
    x, y, z = np.meshgrid(*[np.arange(n) for n in (40, 44, 36)], indexing="ij")
    inside = ((x - 18) / 14) ** 2 + ((y - 24) / 16) ** 2 + ((z - 17) / 12) ** 2 < 1
    waves = np.sin(x / 3.1) + np.sin(y / 4.3 + x / 9) + np.sin(z / 2.7)
    for name, sign in (("t1", 1), ("t2", -1), ("flair", -1)):
        path = folder / "data" / "contrasts" / f"p07_{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = (inside * (1000 + 250 * sign * waves)).astype(np.int16)
        nib.save(nib.Nifti1Image(values, np.diag([-4.0, 4.0, 4.0, 1.0])), path)
    (folder / "bench").mkdir()
    (folder / "bench" / "make_truth.py").write_text(MAKER.format(fails=""))
    monkeypatch.setattr(paths, "SHARED", folder)
    return folder


def test_every_tool_is_known() -> None:
    assert {tool.strip() for tool in contrasts.TOOLS.split(",")} <= {
        *STN3D,
        *OTHER_TOOLS,
    }


def test_a_pair_is_made_for_each_contrast_and_seed_and_only_once(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, Path, contrasts.Options]] = []
    monkeypatch.setattr(contrasts, "measure_pairs", lambda *call: calls.append(call))
    monkeypatch.setattr(contrasts, "report", lambda folder: None)
    command = ["contrasts", "run", "--work", str(tmp_path / "w"), "--seeds", "3,5"]
    command += ["--out", "r", "--threads", "1"]
    main(command)
    pairs = tmp_path / "w" / "pairs"
    ((study, folder, given),) = calls
    assert (study, folder, given.tools) == ("contrasts", pairs, contrasts.TOOLS)
    assert (given.out, given.threads) == (Path("r"), 1)
    read = read_pairs(pairs)
    assert [(pair["name"], pair["split"]) for pair in read] == [
        ("flair-3", "t1 <- flair"),
        ("flair-5", "t1 <- flair"),
        ("t2-3", "t1 <- t2"),
        ("t2-5", "t1 <- t2"),
    ]
    asked = Path(read[1]["moving"]).read_text(encoding="utf-8").split()
    data = shared / "data" / "contrasts"
    assert asked[1] == read[1]["fixed"] == str(data / "p07_t1.nii.gz")
    assert asked[3:] == ["--seed", "5", "--other-contrast", str(data / "p07_flair.nii.gz")]
    (shared / "bench" / "make_truth.py").unlink()
    main(command)  # all are there, nothing is made
    assert len(calls) == 2
    with pytest.raises(SystemExit, match="pairs also holds flair-5"):
        main([*command, "--seeds", "3"])


def test_a_pair_that_fails_leaves_nothing_behind(shared: Path, tmp_path: Path) -> None:
    script = shared / "bench" / "make_truth.py"
    script.write_text(MAKER.format(fails="raise ValueError('no space')"))
    pairs = tmp_path / "pairs"
    with pytest.raises(SystemExit, match=r"make_truth.py failed for t2-1: ValueError: no space"):
        make_contrast_pair(pairs, "t2", 1)
    assert not pairs.exists()
    script.write_text(MAKER.format(fails=""))
    assert sorted(p.name for p in make_contrast_pair(pairs, "t2", 1).iterdir()) == [
        "fixed.txt",
        "moving.nii.gz",
        "split.txt",
        "truth.h5",
    ]


def test_missing_data_and_faulty_seeds_are_reported(shared: Path, tmp_path: Path) -> None:
    (shared / "data" / "contrasts" / "p07_t2.nii.gz").unlink()
    with pytest.raises(SystemExit, match=r"No file .*p07_t2.nii.gz"):
        main(["contrasts", "run", "--work", str(tmp_path / "w"), "--out", "r"])
    with pytest.raises(SystemExit, match="--seeds '1,x': give integers"):
        main(["contrasts", "run", "--work", str(tmp_path / "w"), "--seeds", "1,x"])


def test_the_truth_maps_back_to_the_other_contrast(
    shared: Path, shared_data: Path, tmp_path: Path
) -> None:
    maker = shared_data.parent / "bench" / "make_truth.py"
    (shared / "bench" / "make_truth.py").write_text(maker.read_text(encoding="utf-8"))
    made = make_contrast_pair(tmp_path / "pairs", "t2", 2)
    (pair,) = read_pairs(made.parent)
    t2 = read_image(shared / "data" / "contrasts" / "p07_t2.nii.gz")
    moving, truth = read_image(pair["moving"]), read_transform(pair["true_transform"])
    moved = warp_image(moving.values, moving.grid, truth, t2.grid)
    inside = t2.values > 0
    assert np.corrcoef(moved[inside], t2.values[inside])[0, 1] > 0.9
