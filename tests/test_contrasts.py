"""The pairs of scripts/contrasts.py: their truth, and that they are made once or not at all."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from stn3d.io import read_image, read_transform
from stn3d.warp import warp_image

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import benchmark  # noqa: E402
import contrasts  # noqa: E402

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
    """A folder with a person's contrasts, and a make_truth.py that tells what it was asked."""
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
    monkeypatch.setattr(contrasts, "SHARED", folder)
    return folder


def test_every_tool_is_known() -> None:
    assert {tool.strip() for tool in contrasts.TOOLS.split(",")} <= {
        *benchmark.STN3D,
        *benchmark.PEERS,
    }


def test_a_pair_is_made_for_each_contrast_and_seed_and_only_once(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(benchmark, "main", calls.append)
    command = ["--work", str(tmp_path / "w"), "--seeds", "3,5", "--out", "r", "--threads", "1"]
    contrasts.main(command)
    pairs = tmp_path / "w" / "pairs"
    assert calls == [[str(pairs), "--tools", contrasts.TOOLS, "--out", "r", "--threads", "1"]]
    read = benchmark.read_pairs(pairs)
    assert [(pair["name"], pair["split"]) for pair in read] == [
        ("flair-3", "flair"),
        ("flair-5", "flair"),
        ("t2-3", "t2"),
        ("t2-5", "t2"),
    ]
    asked = Path(read[1]["moving"]).read_text().split()
    folder = shared / "data" / "contrasts"
    assert asked[1] == read[1]["fixed"] == str(folder / "p07_t1.nii.gz")
    assert asked[3:] == ["--seed", "5", "--other-contrast", str(folder / "p07_flair.nii.gz")]
    (shared / "bench" / "make_truth.py").unlink()
    contrasts.main(command)  # all are there, nothing is made
    assert len(calls) == 2
    with pytest.raises(SystemExit, match="pairs also holds flair-5"):
        contrasts.main([*command, "--seeds", "3"])


def test_a_pair_that_fails_leaves_nothing_that_is_taken_for_one(
    shared: Path, tmp_path: Path
) -> None:
    script = shared / "bench" / "make_truth.py"
    script.write_text(MAKER.format(fails="raise ValueError('no space')"))
    pairs = tmp_path / "pairs"
    with pytest.raises(SystemExit, match=r"failed on p07_t2.nii.gz, seed 1: ValueError: no space"):
        contrasts.make_pair(pairs, "t2", 1)
    assert not pairs.exists()
    script.write_text(MAKER.format(fails=""))
    assert sorted(p.name for p in contrasts.make_pair(pairs, "t2", 1).iterdir()) == [
        "fixed.txt",
        "moving.nii.gz",
        "split.txt",
        "truth.h5",
    ]


def test_missing_data_and_odd_seeds_are_told(shared: Path, tmp_path: Path) -> None:
    (shared / "data" / "contrasts" / "p07_t2.nii.gz").unlink()
    with pytest.raises(SystemExit, match=r"no file .*p07_t2.nii.gz"):
        contrasts.main(["--work", str(tmp_path / "w"), "--out", "r"])
    with pytest.raises(SystemExit, match="--seeds '1,x': give whole numbers"):
        contrasts.main(["--work", str(tmp_path / "w"), "--seeds", "1,x"])


def test_the_truth_leads_back_to_the_other_contrast(
    shared: Path, shared_data: Path, tmp_path: Path
) -> None:
    maker = shared_data.parent / "bench" / "make_truth.py"
    (shared / "bench" / "make_truth.py").write_text(maker.read_text())
    made = contrasts.make_pair(tmp_path / "pairs", "t2", 2)
    (pair,) = benchmark.read_pairs(made.parent)
    t2 = read_image(shared / "data" / "contrasts" / "p07_t2.nii.gz")
    moving, truth = read_image(pair["moving"]), read_transform(pair["true_transform"])
    moved = warp_image(moving.values, moving.grid, truth, t2.grid)
    inside = t2.values > 0
    assert np.corrcoef(moved[inside], t2.values[inside])[0, 1] > 0.9
