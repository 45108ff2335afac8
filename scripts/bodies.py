#!/usr/bin/env python3
"""Bodies without brains: abdomen CT and MR, lungs of three people, prostate MR and ultrasound.

    scripts/bodies.py --work DIR --out docs/results/bodies [--parts abdomen,lungs,prostate]
        [--prostate-mm 0.8] [--peer-python peers/bin/python] [options of scripts/benchmark.py]

The images are ../shared/data/abdomen, lung_mr and prostate. Every pair is registered both ways
round, with defaults that know nothing of the part. Small copies are written into DIR, as float32
images and int16 labels whose sform and qform agree; scripts/benchmark.py then measures every tool
on every pair and goes on where a run was cut off.

abdomen: CT and MR of two people; the MR is a slab of 20 slices and their worlds have nothing to do
with each other. Organs are brought to one number by their names: CT ids stand for the class map
"total", MR ids for "total_mr" (map_to_binary.py.txt); what MR does not tell apart (lobes of a lung,
vertebrae) is one organ. Where the CT is fixed most of its organs lie outside the slab, so Dice
stays low whatever is found.

lungs: proton MR, five lobes each, every ordered pair of three people.

prostate: MR and transrectal ultrasound of eight people. The gland is scored by Dice, further
landmarks (channels of 4D labels, cases 0, 1, 3, 4, 7) by the distance of their centroids. The
headers are nominal: 0.4 mm voxels, so "mm" are those of the header. --prostate-mm writes another
voxel size into the copies; give it an --out of its own.
"""

from __future__ import annotations

import argparse
import ast
import csv
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any

import benchmark
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TOOLS = "before,stn3d --metric auto,stn3d by labels,ants-syn,elastix,greedy-nmi"
LUNGS = ("0004", "0006", "0007")
CASES = range(8)
Names = dict[int, str]


@dataclass(frozen=True, eq=False)
class Scan:
    """An image and what is known about it.

    Args:
        values: its intensities.
        affine: RAS+ mm from voxels.
        labels: a label map on the same grid.
        points_mm: ``(N, 3)`` landmarks.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64]
    labels: NDArray[Any]
    points_mm: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the pairs")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--prostate-mm", type=float, help="voxel size; the header's by default")
    parser.add_argument("--tools", default=TOOLS)
    args, further = parser.parse_known_args(arguments)
    if unknown := set(args.parts.split(",")) - set(PARTS):
        raise SystemExit(f"--parts: there is no {min(unknown)!r}; choose among {list(PARTS)}.")
    pairs = args.work / "pairs"
    shutil.rmtree(pairs, ignore_errors=True)
    for part in args.parts.split(","):
        for fixed, moving, scans in PARTS[part](args.prostate_mm):
            write_pair(pairs / f"{part}-{fixed}-{moving}", part, *scans)
    about = (__doc__ or "").split("\n\n", 1)[1].strip("\n")  # the command, and what is in the data
    benchmark.main([str(pairs), "--tools", args.tools, "--about", about, *further])


def write_pair(folder: Path, split: str, fixed: Scan, moving: Scan) -> None:
    """A folder that scripts/benchmark.py reads as a pair."""
    folder.mkdir(parents=True)
    (folder / "split.txt").write_text(f"{split}\n", encoding="utf-8")
    for role, scan in (("fixed", fixed), ("moving", moving)):
        save(folder / f"{role}.nii.gz", scan.values.astype(np.float32), scan.affine)
        save(folder / f"{role}_labels.nii.gz", scan.labels.astype(np.int16), scan.affine)
        if len(scan.points_mm):
            with (folder / f"{role}_points.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("x", "y", "z"), *scan.points_mm.tolist()])


def save(path: Path, values: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """A NIfTI file in mm whose sform and qform are the same."""
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    nib.save(image, path)


def abdomen(_: float | None) -> Iterator[tuple[str, str, tuple[Scan, Scan]]]:
    """CT and MR, organs under common numbers."""
    maps = class_maps((DATA / "abdomen" / "map_to_binary.py.txt").read_text(encoding="utf-8"))
    scans = {}
    for kind, names in (("ct", maps["total"]), ("mr", maps["total_mr"])):
        values, affine = load(f"abdomen/{kind}")
        labels, _affine = load(f"abdomen/{kind}_labels")
        scans[kind] = Scan(values, affine, common_labels(labels, names, maps["total_mr"]))
    yield from both_ways(scans)


def lungs(_: float | None) -> Iterator[tuple[str, str, tuple[Scan, Scan]]]:
    """Every ordered pair of people."""
    scans = {}
    for person in LUNGS:
        (values, affine), (lobes, _affine) = (
            load(f"lung_mr/{person}"),
            load(f"lung_mr/{person}_lobes"),
        )
        scans[person] = Scan(values, affine, lobes.round())
    yield from both_ways(scans)


def prostate(voxel_mm: float | None) -> Iterator[tuple[str, str, tuple[Scan, Scan]]]:
    """MR and ultrasound of each person."""
    for case in CASES:
        scans = {}
        for kind in ("mr", "us"):
            values, affine = load(f"prostate/case{case}_{kind}")
            labels, _affine = load(f"prostate/case{case}_{kind}_labels")
            if voxel_mm is not None:
                affine = np.diag([voxel_mm] * 3 + [1.0])
            gland, points_mm = gland_and_landmarks(labels, affine)
            scans[kind] = Scan(values, affine, gland, points_mm)
        for fixed, moving, pair in both_ways(scans):
            yield f"{case}-{fixed}", moving, pair


PARTS = {"abdomen": abdomen, "lungs": lungs, "prostate": prostate}


def both_ways(scans: dict[str, Scan]) -> Iterator[tuple[str, str, tuple[Scan, Scan]]]:
    """Every ordered pair: the fixed one's name, the moving one's, and both."""
    for fixed, moving in permutations(scans, 2):
        yield fixed, moving, (scans[fixed], scans[moving])


def load(name: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Values and affine of an image, by its path below the data's folder without extension.

    Raises:
        SystemExit: it is not there.
    """
    path = DATA / f"{name}.nii.gz"
    if not path.is_file():
        raise SystemExit(f"no file {path}; these pairs need the project's data there.")
    image: Any = nib.load(path)
    return np.asanyarray(image.dataobj), image.affine


def class_maps(text: str) -> dict[str, Names]:
    """The dictionaries of names by number in TotalSegmentator's map_to_binary.py."""
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "class_map":
            found: dict[str, Names] = ast.literal_eval(node.value)
            return found
    raise SystemExit("map_to_binary.py.txt has no class_map; take TotalSegmentator's file.")


def common_labels(labels: NDArray[Any], names: Names, common: Names) -> NDArray[np.int16]:
    """Labels of one class map under the numbers of another; what that does not name becomes 0."""
    number = {name: i for i, name in common.items()}
    table = np.zeros(int(labels.max()) + 1, np.int16)
    for i in range(1, len(table)):
        table[i] = number.get(coarser(names.get(i, "")), 0)
    return table[labels.astype(int)]


def coarser(name: str) -> str:
    """An organ's name as MR has it: lobes are a lung, and vertebrae are not told apart."""
    name = re.sub(r"^lung_\w+_lobe_(left|right)$", r"lung_\1", name)
    return re.sub(r"^vertebrae_\w+$", "vertebrae", name)


def gland_and_landmarks(
    labels: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The gland, channel 0 where there are channels; ``(N, 3)`` centroids in mm of the others."""
    channels = labels[..., None] if labels.ndim == 3 else labels
    centroids = [np.argwhere(channels[..., c] > 0.5).mean(0) for c in range(1, channels.shape[3])]
    points = np.reshape(centroids, (-1, 3)) @ affine[:3, :3].T + affine[:3, 3]
    return channels[..., 0] > 0.5, points


if __name__ == "__main__":
    main()
