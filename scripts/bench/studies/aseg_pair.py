"""Two skull-stripped brains with FreeSurfer's labels, affinely aligned: stn3d and other tools.

    python -m scripts.bench aseg_pair run --work DIR [--tools-python tools/bin/python]

The 30 labels are those that learning-based registration is usually scored by (Balakrishnan et al.
2019, doi:10.1109/TMI.2019.2897538, where VoxelMorph reaches a mean Dice of 0.75 over many pairs of
affinely aligned brains). One pair, both directions; no setting was chosen on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from scripts.bench.options import option, required
from scripts.bench.pair_benchmark import PairOptions, measure_pairs
from scripts.bench.pair_report import HELD_OUT, write_report
from scripts.bench.written_pairs import LabelledImage, empty_folder, load, write_pair

TITLE = "Two brains with FreeSurfer's labels"
ABOUT = """\
The two skull-stripped T1 brains of shared/data/aseg_pair, affinely aligned, 1 mm; mean Dice of 30
labels of FreeSurfer's aseg. VoxelMorph's published Dice of such brains is 0.75 to 0.80, over other
pairs. No setting of the registration was chosen on this pair."""
LABELS = (
    *(2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 28, 31),
    *(41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 60, 63),
)


@dataclass(frozen=True, kw_only=True)
class Options(PairOptions):
    """Options of the study."""

    work: Path = required("folder for the pairs")
    tools: str = option(
        "stn3d default,stn3d fast,greedy,ants-syn",
        "names from scripts/bench/tools.py and baselines.py",
    )


def run(options: Options) -> None:
    """Make the pairs, measure what is not measured yet, then report."""
    pairs = empty_folder(options.work / "pairs")
    for fixed, moving in permutations("ab"):
        write_pair(pairs / f"{fixed} <- {moving}", HELD_OUT, brain(fixed), brain(moving))
    measure_pairs("aseg_pair", pairs, options)
    report(options.out)


def report(folder: Path) -> None:
    """Write README.md and plot.svg."""
    write_report(folder, TITLE, ABOUT)


def brain(name: str) -> LabelledImage:
    """A brain with the 30 labels."""
    values, affine = load(f"aseg_pair/{name}_t1")
    labels = load(f"aseg_pair/{name}_labels")[0]
    kept = np.where(np.isin(labels, LABELS), labels, 0)
    return LabelledImage(values.astype(np.float32), affine, kept)
