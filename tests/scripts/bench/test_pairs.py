"""Lists of pairs: CSV files and folders, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.bench.pairs import IMAGES, read_pairs
from scripts.bench.paths import PAIR_LISTS

HEADER = "name,split,fixed,moving,fixed_labels,moving_labels,true_transform\n"


def files(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_a_csv_gives_absolute_paths_and_omits_unknown_entries(tmp_path: Path) -> None:
    files(tmp_path / "data", "a.nii", "b.nii", "t.h5")
    path = tmp_path / "pairs.csv"
    path.write_text(
        HEADER + "x,tuning,data/a.nii,data/b.nii,,,\ny,,data/b.nii,data/a.nii,,,data/t.h5\n"
    )
    a, b, t = (str((tmp_path / "data" / name).resolve()) for name in ("a.nii", "b.nii", "t.h5"))
    assert read_pairs(path) == [
        {"name": "x", "split": "tuning", "fixed": a, "moving": b},
        {"name": "y", "fixed": b, "moving": a, "true_transform": t},
    ]


def test_a_folder_gives_a_pair_for_each_subfolder(tmp_path: Path) -> None:
    files(tmp_path / "images", "f.nii.gz", "f_labels.mha")
    files(tmp_path / "pairs" / "p2", "fixed.nrrd", "moving.nii")
    files(tmp_path / "pairs" / "p1", "moving.nii.gz", "moving_labels.nii.gz", "truth.h5")
    files(tmp_path / "pairs", "notes.md")
    p1, p2 = tmp_path / "pairs" / "p1", tmp_path / "pairs" / "p2"
    (p1 / "fixed.txt").write_text("../../images/f.nii.gz\n")
    (p1 / "fixed_labels.txt").write_text(str(tmp_path / "images" / "f_labels.mha"))
    (p2 / "split.txt").write_text("held-out\n")
    first, second = read_pairs(tmp_path / "pairs")
    images = {"fixed": "f.nii.gz", "fixed_labels": "f_labels.mha"}
    expected = {key: str((tmp_path / "images" / v).resolve()) for key, v in images.items()}
    expected |= {key: str((p1 / f"{key}.nii.gz").resolve()) for key in ("moving", "moving_labels")}
    assert first == expected | {"name": "p1", "true_transform": str((p1 / "truth.h5").resolve())}
    assert (second["name"], second["split"]) == ("p2", "held-out")
    assert second["fixed"].endswith("p2/fixed.nrrd")
    assert second["moving"].endswith("p2/moving.nii")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "holds no pairs"),
        ("x,,a.nii,,,,\n", "the pair x has no moving image"),
        ("x,,a.nii,gone.nii,,,\n", "x: moving: no file"),
        ("x,,a.nii,a.nii,gone.nii,,\n", "x: fixed_labels: no file"),
        ("x,,a.nii,a.nii,,,\nx,,a.nii,a.nii,,,\n", "name 'x'"),
        (",,a.nii,a.nii,,,\n", "name None"),
    ],
)
def test_faulty_pairs_raise_one_sentence(rows: str, message: str, tmp_path: Path) -> None:
    files(tmp_path, "a.nii")
    (tmp_path / "pairs.csv").write_text(HEADER + rows)
    with pytest.raises(SystemExit, match=message):
        read_pairs(tmp_path / "pairs.csv")


def test_a_missing_file_is_reported() -> None:
    with pytest.raises(SystemExit, match="neither a CSV file nor a folder"):
        read_pairs(Path("nowhere.csv"))


def test_the_brains_are_split_into_tuning_and_held_out(shared_data: Path) -> None:
    pairs = read_pairs(PAIR_LISTS / "brains.csv")
    splits = [pair["split"] for pair in pairs]
    assert {split: splits.count(split) for split in splits} == {"tuning": 4, "held-out": 8}
    for pair in pairs:
        fixed, moving = pair["name"].split(" <- ")
        assert [Path(pair[role]).name for role in IMAGES] == [
            f"{fixed}_t1.nii.gz",
            f"{moving}_t1.nii.gz",
            f"{fixed}_labels.nii.gz",
            f"{moving}_labels.nii.gz",
        ]


def test_the_networks_pairs_are_twenty_held_out_and_one_for_tuning(
    shared_data: Path,
) -> None:
    tuned, *pairs = read_pairs(PAIR_LISTS / "brains_networks.csv")
    names = [pair["name"] for pair in pairs]
    known = {pair["name"]: pair for pair in read_pairs(PAIR_LISTS / "brains.csv")}
    assert (tuned["name"], tuned["split"]) == ("1000 <- 1001", "tuning")
    assert len(pairs) == 20
    assert {pair["split"] for pair in pairs} == {"held-out"}
    held_out = [pair for pair in known.values() if pair["split"] == "held-out"]
    assert held_out == [tuned | {"split": "held-out"}, *pairs[:7]]
    people_of = [frozenset(name.split(" <- ")) for name in names]
    assert len(set(people_of)) == 20  # whichever of the two is fixed
    assert not {frozenset(name.split(" <- ")) for name in known} & set(people_of[7:])
    people = {p.name[:4] for p in (shared_data / "brains").glob("*_t1.nii.gz")}
    for role in (0, 1):
        assert {name.split(" <- ")[role] for name in names} == people
    for pair in (tuned, *pairs):
        files = [Path(pair[role]).name for role in IMAGES]
        fixed, moving = pair["name"].split(" <- ")
        ends = [(fixed, "t1"), (moving, "t1"), (fixed, "labels"), (moving, "labels")]
        assert files == [f"{person}_{kind}.nii.gz" for person, kind in ends]
