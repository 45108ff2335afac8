"""Lungs that slide along the chest wall under a known motion: stn3d and other tools.

    python -m scripts.bench sliding run --work DIR [--sink-mm 15,25] [--reach-mm 150]

The images are shared/data/lung_mr, three people. In each column of voxels that contains lung,
everything below the lung's top sinks: by 0 at the top up to --sink-mm at --reach-mm below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.bench.options import option, required
from scripts.bench.pair_benchmark import PairOptions, measure_pairs
from scripts.bench.pair_report import write_report
from scripts.bench.written_pairs import LUNGS, Floats, LabelledImage, empty_folder, load, write_pair

TITLE = "Lungs that slide along the chest wall"
TOOLS = "before,stn3d default,stn3d + labels,elastix,ants-syn,greedy"
POINTS = 300
ABOUT = """\
MR of three people. In each column of voxels that contains lung, everything below the lung's top
sinks, by 0 at the top up to 15 or 25 mm at 150 mm below it, as a diaphragm that moves down carries
it along; the chest wall beside it stays. The motion is discontinuous all along the wall, as in
breathing, and nothing is torn or doubled, because it stays within its columns. The original image
is the moving one, the image resampled through the motion the fixed one; both have noise of 1 %.

The TRE is measured at 300 points in the lungs of the fixed image, which no tool uses. "stn3d +
labels" has the lungs of both images in its objective."""


@dataclass(frozen=True, kw_only=True)
class Options(PairOptions):
    """Options of the study."""

    work: Path = required("folder for the pairs")
    sink_mm: str = option("15,25", "displacements at the base of the lungs, mm")
    range_mm: float = option(150.0, "distance from the top of a lung to the largest displacement")
    tools: str = option(TOOLS, "names from scripts/bench/tools.py and baselines.py")


def run(options: Options) -> None:
    """Write the pairs, measure what is not measured yet, then report."""
    pairs = empty_folder(options.work / "pairs")
    for seed, person in enumerate(LUNGS):
        for sink_mm in map(float, options.sink_mm.split(",")):
            fixed, moving = sliding_pair(person, sink_mm, options.range_mm, seed)
            write_pair(pairs / f"{person}-{sink_mm:g}mm", "", fixed, moving)
    measure_pairs("sliding", pairs, options)
    report(options.out)


def report(folder: Path) -> None:
    """Write README.md and plot.svg."""
    write_report(folder, TITLE, ABOUT)


def sliding_pair(
    person: str, sink_mm: float, range_mm: float, seed: int
) -> tuple[LabelledImage, LabelledImage]:
    """The fixed and the moving image of one person, each with its lungs and landmarks."""
    values, affine = load(f"lung_mr/{person}")
    lungs = load(f"lung_mr/{person}_lobes")[0].round() > 0
    return slid_pair(LabelledImage(values, affine, lungs), sink_mm, range_mm, seed)


def slid_pair(
    original: LabelledImage, sink_mm: float, range_mm: float, seed: int
) -> tuple[LabelledImage, LabelledImage]:
    """The fixed and the moving image, each with its labels and landmarks within them.

    Args:
        original: the moving image before noise; its labels mark the part that slides.
        sink_mm: displacement at the distance ``range_mm`` from the top of a column.
        range_mm: that distance.
        seed: of the noise and the landmarks.
    """
    values, affine, lungs = original.values, original.affine, original.labels > 0
    axis, upwards = vertical(affine)
    step_mm = float(np.linalg.norm(affine[:3, axis]))
    depth = moves_vox(lungs, axis, upwards, sink_mm / step_mm, range_mm / step_mm)
    index = np.indices(values.shape).astype(float)
    index[axis] += depth
    seen = ndimage.map_coordinates(values.astype(float), index, order=1, mode="nearest")
    fixed_lungs = ndimage.map_coordinates(lungs.astype(float), index, order=1) > 0.5
    draws = np.random.default_rng(seed)
    noise = 0.01 * np.percentile(values, 99)
    images = [image + noise * draws.standard_normal(image.shape) for image in (seen, values)]
    chosen = draws.choice(np.argwhere(fixed_lungs), POINTS, replace=False)
    goals = index[(slice(None), *chosen.T)].T
    points_mm = [points @ affine[:3, :3].T + affine[:3, 3] for points in (chosen, goals)]
    return (
        LabelledImage(images[0], affine, fixed_lungs, points_mm[0]),
        LabelledImage(images[1], affine, lungs, points_mm[1]),
    )


def vertical(affine: Floats) -> tuple[int, int]:
    """The axis of voxels that runs most along the body, and 1 if it runs upwards, else -1."""
    axis = int(np.argmax(np.abs(affine[2, :3])))
    return axis, 1 if affine[2, axis] > 0 else -1


def moves_vox(
    lungs: NDArray[np.bool_], axis: int, upwards: int, sink_vox: float, reach_vox: float
) -> Floats:
    """The offset along the axis, in voxels, at which each voxel of the fixed image is sampled.

    The lungs have sunk in the fixed image, so its content lies higher up in the moving one. The
    offset is a smooth step from 0 at the top of a column, with a slope below 1.
    """
    along = np.moveaxis(lungs, axis, -1)
    number = np.arange(along.shape[-1])
    if upwards > 0:
        top = along.shape[-1] - 1 - np.argmax(along[..., ::-1], axis=-1)
        below = top[..., None] - number
    else:
        top = np.argmax(along, axis=-1)
        below = number - top[..., None]
    share = np.clip(below / reach_vox, 0, 1)
    moves = upwards * sink_vox * share**2 * (3 - 2 * share) * np.any(along, axis=-1, keepdims=True)
    return np.moveaxis(moves, -1, axis)
