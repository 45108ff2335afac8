"""CT of the abdomen and the chest whose content slides along the wall: stn3d and other tools.

    python -m scripts.bench sliding_body run --work DIR [--sink-mm 20,35] [--range-mm 120]

The images are shared/data/ct_body, two people. What lies within the body at a depth of 30 mm or
more sinks, as in `scripts.bench.studies.sliding`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.bench.options import option, required
from scripts.bench.pair_benchmark import PairOptions, measure_pairs
from scripts.bench.pair_report import write_report
from scripts.bench.studies.sliding import slid_pair, vertical
from scripts.bench.written_pairs import Floats, LabelledImage, empty_folder, load, write_pair

TITLE = "Abdomen and chest that slide within the body's wall"
TOOLS = "before,stn3d --large-motion off,stn3d --large-motion on,stn3d default,ants-syn,greedy"
PARTS = ("abdomen", "chest")
ABOUT = """\
CT of two people, the abdomen and the chest. What lies at a depth of 30 mm or more below the skin
sinks in each column of voxels, by 0 at the top up to 20 or 35 mm at 120 mm below it; the wall
stays. The motion is discontinuous along the wall, and nothing is torn or doubled, because it stays
within its columns. The original image is the moving one, the image resampled through the motion the
fixed one; both have noise of 1 %.

The TRE is measured at 300 points in the part of the fixed image that has moved, which no tool
uses."""
_BODY_HU = -300
_WALL_MM = 30.0
_FREE_MM = 40.0  # at the top of the image, where the motion would begin beyond it


@dataclass(frozen=True, kw_only=True)
class Options(PairOptions):
    """Options of the study."""

    work: Path = required("folder for the pairs")
    sink_mm: str = option("20,35", "displacements at the lower end, mm")
    range_mm: float = option(120.0, "distance from the top to the largest displacement")
    tools: str = option(TOOLS, "names from scripts/bench/tools.py and baselines.py")


def run(options: Options) -> None:
    """Write the pairs, measure what is not measured yet, then report."""
    pairs = empty_folder(options.work / "pairs")
    for seed, part in enumerate(PARTS):
        values, affine = load(f"ct_body/{part}_ct")
        original = LabelledImage(values, affine, content_of(values, affine))
        for sink_mm in map(float, options.sink_mm.split(",")):
            fixed, moving = slid_pair(original, sink_mm, options.range_mm, seed)
            write_pair(pairs / f"{part}-{sink_mm:g}mm", "", fixed, moving)
    measure_pairs("sliding_body", pairs, options)
    report(options.out)


def report(folder: Path) -> None:
    """Write README.md and plot.svg."""
    write_report(folder, TITLE, ABOUT)


def content_of(values: NDArray[Any], affine: Floats) -> NDArray[np.bool_]:
    """The body without a wall of 30 mm and without the upper end of the image."""
    axis, upwards = vertical(affine)
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    slices = np.moveaxis(values > _BODY_HU, axis, 0)
    filled = np.stack([ndimage.binary_fill_holes(_largest(one)) for one in slices])
    across = [s for a, s in enumerate(spacing_mm) if a != axis]
    depth_mm = np.stack([ndimage.distance_transform_edt(one, sampling=across) for one in filled])
    content = depth_mm > _WALL_MM
    free = round(_FREE_MM / spacing_mm[axis])
    content[-free:] &= upwards < 0
    content[:free] &= upwards > 0
    return np.moveaxis(content, 0, axis)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part, without the table."""
    parts, _ = ndimage.label(ndimage.binary_opening(mask, iterations=2))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax() if sizes.any() else mask
