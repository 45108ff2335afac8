"""Lists of image pairs to register: a CSV file or a folder.

A CSV file has a header line and the columns name, fixed, moving and, where known, fixed_labels,
moving_labels, fixed_points, moving_points (CSV files of landmarks), true_transform (an ITK file,
fixed points to moving points) and split (such as tuning or held-out: means are reported for each).
Paths are relative to the CSV file.

In a folder each subfolder is a pair: fixed, moving and, where known, fixed_labels and moving_labels
(.nii.gz, .nii, .mha, .nrrd or .png), fixed_points.csv, moving_points.csv, truth.h5 and split.txt.
An image may also be a text file (fixed.txt, ...) that holds its path, relative to the subfolder.
fixed_mask is the region that is evaluated, which no tool uses. Parts of the landmarks that are
reported by themselves are fixed_points_PART.csv and moving_points_PART.csv.
"""

from __future__ import annotations

import csv
from pathlib import Path

IMAGES = ("fixed", "moving", "fixed_labels", "moving_labels")
MASK = "fixed_mask"
POINTS = ("fixed_points", "moving_points")
FILES = (*IMAGES, MASK, *POINTS, "true_transform")
SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".txt")
Pair = dict[str, str]


def read_pairs(path: Path) -> list[Pair]:
    """Read the pairs of a CSV file or a folder, with absolute paths; unknown entries are absent.

    Raises:
        SystemExit: there is no pair, or the name or a file of a pair is missing.
    """
    pairs = _pairs_of_folder(path) if path.is_dir() else _pairs_of_csv(path)
    if not pairs:
        raise SystemExit(f"{path} holds no pairs; see the first lines of scripts/bench/pairs.py.")
    names = [pair.get("name") for pair in pairs]
    for name, pair in zip(names, pairs, strict=True):
        if not name or names.count(name) > 1:
            raise SystemExit(f"{path}: name {name!r}; give each pair a name of its own.")
        for key in FILES:
            if key not in pair and key in ("fixed", "moving"):
                raise SystemExit(f"{path}: the pair {name} has no {key} image; add one.")
            if key in pair and not Path(pair[key]).is_file():
                raise SystemExit(f"{path}: {name}: {key}: no file {pair[key]}; correct the path.")
    return pairs


def parts_of_points(pair: Pair) -> list[str]:
    """Names of the parts of the landmarks."""
    start = f"{POINTS[0]}_"
    return [key.removeprefix(start) for key in pair if key.startswith(start)]


def _pairs_of_csv(path: Path) -> list[Pair]:
    if not path.is_file():
        raise SystemExit(f"{path} is neither a CSV file nor a folder; give one of them.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{k: cell for k, cell in row.items() if k and cell} for row in csv.DictReader(file)]
    for row in rows:
        paths = {k: v for k, v in row.items() if k in FILES}
        row |= {k: str((path.parent / v).resolve()) for k, v in paths.items()}
    return rows


def _pairs_of_folder(path: Path) -> list[Pair]:
    return [_pair_of_folder(folder) for folder in sorted(p for p in path.iterdir() if p.is_dir())]


def _pair_of_folder(folder: Path) -> Pair:
    pair = {"name": folder.name}
    for role in (*IMAGES, MASK):
        found = [p for suffix in SUFFIXES if (p := folder / (role + suffix)).is_file()]
        if found and found[0].suffix == ".txt":
            found = [folder / found[0].read_text(encoding="utf-8").strip()]
        pair |= {role: str(found[0].resolve())} if found else {}
    points = {path.stem for key in POINTS for path in folder.glob(f"{key}*.csv")}
    others = {"true_transform": "truth.h5"} | {key: f"{key}.csv" for key in sorted(points)}
    for key, name in others.items():
        pair |= {key: str((folder / name).resolve())} if (folder / name).is_file() else {}
    if (folder / "split.txt").is_file():
        pair["split"] = (folder / "split.txt").read_text(encoding="utf-8").strip()
    return pair
