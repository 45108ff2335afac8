"""Brains of different people in different contrasts: features, images alone and greedy.

    python -m scripts.bench other_contrast run --work DIR [--tools "stn3d,stn3d --features none"]

The moving T1 gets the intensities of a T2-weighted or a FLAIR image: a curve through the means of
its three tissues (k-means) maps fluid, grey and white matter to those of the other contrast. Noise,
partial volume and bias field stay those of the scanner. Pairs marked held-out are of people whom no
setting was chosen on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans

from scripts.bench.options import option, required
from scripts.bench.pair_benchmark import PairOptions, measure_pairs
from scripts.bench.pair_report import HELD_OUT, write_report
from scripts.bench.written_pairs import Floats, LabelledImage, empty_folder, load, write_pair

TITLE = "Brains of different people in different contrasts"
ABOUT = """\
T1-weighted brains, and brains of other people whose intensities are mapped to those of T2 or FLAIR
by a curve through the means of fluid, grey and white matter. Dice of about 138 manual regions. No
setting was chosen on the held-out people; the segmentation network was trained on synthetic images
only."""
CONTRASTS = {"t2": (1.0, 0.55, 0.35), "flair": (0.1, 0.7, 0.5)}
"""Intensities of fluid, grey and white matter."""
TUNED = "1000 1001 t2, 1006 1013 flair"
OTHERS = "1007 1036 t2, 1008 1009 flair, 1011 1012 t2, 1014 1015 flair, 1009 1017 t2"
TOOLS = "stn3d --kind deformable,stn3d --kind deformable --features none,greedy-nmi"


@dataclass(frozen=True, kw_only=True)
class Options(PairOptions):
    """Options of the study."""

    work: Path = required("folder for the pairs")
    tools: str = option(TOOLS, "names from scripts/bench/tools.py and baselines.py")


def run(options: Options) -> None:
    """Make the pairs, measure what is not measured yet, then report."""
    pairs = empty_folder(options.work / "pairs")
    for split, names in (("tuning", TUNED), (HELD_OUT, OTHERS)):
        for name in names.split(", "):
            fixed, moving, contrast = name.split()
            folder = pairs / f"{fixed} <- {moving} {contrast}"
            write_pair(folder, split, brain(fixed), recoloured(brain(moving), contrast))
    measure_pairs("other_contrast", pairs, options)
    report(options.out)


def report(folder: Path) -> None:
    """Write README.md and plot.svg."""
    write_report(folder, TITLE, ABOUT)


def brain(name: str) -> LabelledImage:
    """A T1-weighted brain with its manual regions."""
    values, affine = load(f"brains/{name}_t1")
    return LabelledImage(values.astype(np.float32), affine, load(f"brains/{name}_labels")[0])


def recoloured(image: LabelledImage, contrast: str) -> LabelledImage:
    """A T1-weighted brain with the intensities of another contrast; the background stays 0."""
    values: Floats = image.values
    tissue = values[values > 0].astype(float)
    sample = np.sort(tissue[:: max(1, len(tissue) // 20_000)])
    start = np.percentile(sample, [10, 40, 85])
    means = np.sort(kmeans(sample, start)[0])
    fluid, grey, white = CONTRASTS[contrast]
    known = [0, means[0] / 2, *means, means[2] * 1.5]
    mapped = np.interp(values, known, [fluid, fluid, fluid, grey, white, white])
    return LabelledImage(1000 * mapped * (values > 0), image.affine, image.labels)
