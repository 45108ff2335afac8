"""Bodies without brains: abdomen CT and MR, lungs of three people, prostate MR and ultrasound.

    python -m scripts.bench bodies run --work DIR [--parts abdomen,lungs,prostate]
        [--prostate-mm 0.8] [--tools-python tools/bin/python]

The images are shared/data/abdomen, lung_mr and prostate. Every pair is registered in both
directions, with defaults that do not depend on the body part. Small copies are written to DIR.
--prostate-mm writes another voxel size to the prostate copies; give it an --out of its own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.bench import paths
from scripts.bench.options import option, required
from scripts.bench.pair_benchmark import PairOptions, measure_pairs
from scripts.bench.pair_report import write_report
from scripts.bench.paths import existing
from scripts.bench.written_pairs import LUNGS, Floats, LabelledImage, empty_folder, load, write_pair

TITLE = "Abdomen, lungs and prostate"
TOOLS = "before,stn3d --metric auto,stn3d + labels,ants-syn,elastix,greedy-nmi"
CASES = range(8)
ABOUT = """Every pair is registered in both directions, with defaults that do not depend on the body
part.
"stn3d + labels" has the labels in its objective, so its Dice is not an independent test.

Abdomen: CT and MR of two people; the MR is a slab of 20 slices, and the two headers have no common
space. Organs get common numbers by their names: CT ids are those of the class map "total", MR ids
those of "total_mr" (map_to_binary.py.txt); what MR does not distinguish (lobes of a lung,
vertebrae) is one organ. Where the CT is fixed, most of its organs lie outside the slab, so Dice
stays low for any transform.

Lungs: proton MR, five lobes each, every ordered pair of three people.

Prostate: MR and transrectal ultrasound of eight people. Dice is that of the gland; further
landmarks (channels of 4D labels, cases 0, 1, 3, 4, 7) give the TRE of their centroids. The headers
are nominal: 0.4 mm voxels, so "mm" are those of the header."""
Names = dict[int, str]
NamedPair = tuple[str, str, tuple[LabelledImage, LabelledImage]]


@dataclass(frozen=True, kw_only=True)
class Options(PairOptions):
    """Options of the study."""

    work: Path = required("folder for the pairs")
    parts: str = option("abdomen,lungs,prostate", "body parts")
    prostate_mm: float | None = option(None, "voxel size of the prostate copies, mm")
    tools: str = option(TOOLS, "names from scripts/bench/tools.py and baselines.py")


def run(options: Options) -> None:
    """Write the pairs, measure what is not measured yet, then report."""
    if unknown := set(options.parts.split(",")) - set(PARTS):
        raise SystemExit(f"--parts: there is no {min(unknown)!r}; choose from {list(PARTS)}.")
    pairs = empty_folder(options.work / "pairs")
    for part in options.parts.split(","):
        for fixed, moving, images in PARTS[part](options.prostate_mm):
            write_pair(pairs / f"{part}-{fixed}-{moving}", part, *images)
    measure_pairs("bodies", pairs, options)
    report(options.out)


def report(folder: Path) -> None:
    """Write README.md and plot.svg."""
    write_report(folder, TITLE, ABOUT)


def abdomen(_: float | None) -> Iterator[NamedPair]:
    """CT and MR, with common numbers for the organs."""
    path = paths.SHARED / "data" / "abdomen" / "map_to_binary.py.txt"
    maps = class_maps(existing(path).read_text(encoding="utf-8"))
    images = {}
    for kind, names in (("ct", maps["total"]), ("mr", maps["total_mr"])):
        values, affine = load(f"abdomen/{kind}")
        labels, _affine = load(f"abdomen/{kind}_labels")
        images[kind] = LabelledImage(values, affine, common_labels(labels, names, maps["total_mr"]))
    yield from ordered_pairs(images)


def lungs(_: float | None) -> Iterator[NamedPair]:
    """Every ordered pair of people."""
    images = {}
    for person in LUNGS:
        (values, affine), (lobes, _affine) = (
            load(f"lung_mr/{person}"),
            load(f"lung_mr/{person}_lobes"),
        )
        images[person] = LabelledImage(values, affine, lobes.round())
    yield from ordered_pairs(images)


def prostate(voxel_mm: float | None) -> Iterator[NamedPair]:
    """MR and ultrasound of each person."""
    for case in CASES:
        images = {}
        for kind in ("mr", "us"):
            values, affine = load(f"prostate/case{case}_{kind}")
            labels, _affine = load(f"prostate/case{case}_{kind}_labels")
            if voxel_mm is not None:
                affine = np.diag([voxel_mm] * 3 + [1.0])
            gland, points_mm = gland_and_landmarks(labels, affine)
            images[kind] = LabelledImage(values, affine, gland, points_mm)
        for fixed, moving, pair in ordered_pairs(images):
            yield f"{case}-{fixed}", moving, pair


PARTS: dict[str, Callable[[float | None], Iterator[NamedPair]]] = {
    "abdomen": abdomen,
    "lungs": lungs,
    "prostate": prostate,
}


def ordered_pairs(images: dict[str, LabelledImage]) -> Iterator[NamedPair]:
    """Every ordered pair: the names of the fixed and the moving image, and both images."""
    for fixed, moving in permutations(images, 2):
        yield fixed, moving, (images[fixed], images[moving])


def class_maps(text: str) -> dict[str, Names]:
    """The dictionaries of names by number in TotalSegmentator's map_to_binary.py."""
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "class_map":
            found: dict[str, Names] = ast.literal_eval(node.value)
            return found
    raise SystemExit("map_to_binary.py.txt has no class_map; take TotalSegmentator's file.")


def common_labels(labels: NDArray[Any], names: Names, common: Names) -> NDArray[np.int16]:
    """Labels of one class map with the numbers of another; names that it lacks become 0."""
    number = {name: i for i, name in common.items()}
    table = np.zeros(int(labels.max()) + 1, np.int16)
    for i in range(1, len(table)):
        table[i] = number.get(coarser(names.get(i, "")), 0)
    return table[labels.astype(int)]


def coarser(name: str) -> str:
    """An organ's name in MR: the lobes of a lung are one organ, and so are all vertebrae."""
    name = re.sub(r"^lung_\w+_lobe_(left|right)$", r"lung_\1", name)
    return re.sub(r"^vertebrae_\w+$", "vertebrae", name)


def gland_and_landmarks(labels: NDArray[Any], affine: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """The gland, channel 0 where there are channels; ``(N, 3)`` centroids in mm of the others."""
    channels = labels[..., None] if labels.ndim == 3 else labels
    centroids = [np.argwhere(channels[..., c] > 0.5).mean(0) for c in range(1, channels.shape[3])]
    points = np.reshape(centroids, (-1, 3)) @ affine[:3, :3].T + affine[:3, 3]
    return channels[..., 0] > 0.5, points
