"""Rigid registration of CT and MR heads from random initial poses: does it always end in one place?

    python -m scripts.bench ct_mr run --work DIR [--count 50] [--options "--metric auto"]
        [--pairs "scct mni152_t1_2mm,..."] [--others ants-rigid] [--tools-python tools/bin/python]

A pair is "FIXED MOVING", two images of shared/data/ct_mr, by default a CT head template and three
MR templates, in both directions. An initial pose rotates the moving image by up to 45 degrees about
each axis through the centre of its field of view, and translates it by up to 40 mm along each. All
of it goes into the header (sform and qform), so no voxel is resampled. Numbers are drawn from
--seed and the number of the pose alone, the same for every pair. Every run is a process of its own,
from files to files; stn3d is ``stn3d register --kind rigid`` with --options.

Run it again with other --options or --others to add a tool.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from scipy.spatial.transform import Rotation

from scripts.bench.images import grid_of, write_displaced
from scripts.bench.known_truth import contrast_pairs
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.pages import command, conditions, failures, median_p95_max, table, write_page
from scripts.bench.paths import image_path
from scripts.bench.process import failure_reason
from scripts.bench.rigid_metrics import (
    Floats,
    consensus,
    distances_mm,
    mean_p95_max,
    read_matrix,
    transformed,
)
from scripts.bench.store import Row, Store, read
from scripts.bench.tools import available, register_pair
from stn3d.io import read_mask

MASK = "ct_mr/mni152_brainmask_2mm"
MR = ("mni152_t1_2mm", "avg152T2", "single_subj_T1")
PAIRS = ",".join([*(f"scct {mr}" for mr in MR), *(f"{mr} scct" for mr in MR)])
MAX_ANGLE_DEG, MAX_SHIFT_MM = 45.0, 40.0
LOST_MM = 10.0
KEYS = ("fixed", "moving", "pose", "tool")
ABOUT = """\
Templates of CT and MR heads, all in MNI space. The header of the moving one is rotated by up to 45
degrees about each axis and translated by up to 40 mm along each. A run's transform is evaluated
over the brain, after the initial displacement is removed. "Deviation" is the largest distance of a
run, anywhere in the brain, from the consensus of all runs of the pair (the median of each
coordinate): it is 0 for a tool that always ends in the same place, wherever that is. "From
identity" is the mean distance from the identity, which is correct up to the templates' own
differences of 1 to 3 mm. "Lost" counts runs more than 10 mm from the identity, "failed" runs
without a transform. Times are wall times of a whole process, from files to files."""


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    pairs: str = option(PAIRS, "pairs of images, fixed and moving")
    count: int = option(50, "initial poses of each pair")
    options: str = option("--metric auto", "options of stn3d register")
    others: str = option("", "other tools, such as ants-rigid,greedy-rigid")
    tools_python: str = option(sys.executable, "the Python interpreter that has the other tools")
    seed: int = option(5, "random seed of the poses")


def run(options: Options) -> None:
    """Measure what is not measured yet, then report."""
    wanted = [f"stn3d --kind rigid {options.options}".strip(), *options.others.split(",")]
    tools = available([tool for tool in wanted if tool], options.tools_python)
    shared = {"machine": machine(), "threads": options.threads, "seed": options.seed}
    store = Store(options.out, "ct_mr", KEYS, shared, command=command_line("ct_mr", options))
    rows = [
        {"fixed": fixed, "moving": moving, "pose": pose, "tool": tool, "version": tools[tool]}
        for pose in range(options.count)
        for fixed, moving in contrast_pairs(options.pairs)
        for tool in tools
    ]
    how = (options.threads, options.tools_python)
    store.measure(rows, partial(measured, options.seed, how))
    store.replace(with_deviation(store.rows, brain_mm()))
    report(options.out)


def measured(seed: int, how: tuple[int, str], row: Row) -> Row:
    """One run: ``matrix``, its transform without the initial displacement, and its cost.

    Args:
        seed: of all poses.
        how: threads, and the Python interpreter that has the other tools.
        row: pair, pose and tool.
    """
    fixed, moving = (image_path(f"ct_mr/{row[role]}") for role in ("fixed", "moving"))
    displaced = displacement(seed, row["pose"], grid_of(moving).centre_mm.numpy())
    with tempfile.TemporaryDirectory() as folder:
        image, out = Path(folder) / "moving.nii.gz", Path(folder) / "out"
        write_displaced(moving, displaced, image)
        try:
            cost = register_pair(row["tool"], (str(fixed), str(image)), out, *how)
        except subprocess.CalledProcessError as error:
            return {"failed": failure_reason(error)}
        found = read_matrix(out / "transform.h5", brain_mm())
    matrix = np.linalg.inv(displaced) @ found
    return {"matrix": matrix.round(7).tolist()} | cost


def displacement(seed: int, pose: int, centre_mm: Floats) -> Floats:
    """The matrix of a pose: from the moving image's original world to the displaced one."""
    rng = np.random.default_rng([seed, pose])
    angles = rng.uniform(-MAX_ANGLE_DEG, MAX_ANGLE_DEG, 3)
    shift = rng.uniform(-MAX_SHIFT_MM, MAX_SHIFT_MM, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = centre_mm - matrix[:3, :3] @ centre_mm + shift
    return matrix


def brain_mm() -> Floats:
    """``(N, 3)`` voxels of the brain in the templates' space, every third along each axis."""
    mask = read_mask(image_path(MASK))
    every = (slice(None, None, 3),) * 3
    points: Floats = mask.grid.points_mm()[every][mask.values[0, 0][every] > 0].double().numpy()
    return points


def with_deviation(rows: Sequence[Row], points_mm: Floats) -> list[Row]:
    """The rows with ``identity_mm``, mean distance from the identity over the brain, and
    ``deviation_mm``, the largest distance from the consensus of the pair's and tool's runs."""
    matrices: dict[tuple[str, ...], list[Floats]] = {}
    for row in rows:
        if "matrix" in row:
            matrices.setdefault(_group(row), []).append(np.array(row["matrix"]))
    middles = {group: consensus(found, points_mm) for group, found in matrices.items()}
    evaluated = []
    for row in rows:
        if "matrix" in row:
            mapped = transformed(np.array(row["matrix"]), points_mm)
            row = row | {"identity_mm": mean_p95_max(distances_mm(mapped, points_mm))["mean"]}
            deviation = mean_p95_max(distances_mm(mapped, middles[_group(row)]))["max"]
            row |= {"deviation_mm": deviation}
        evaluated.append(row)
    return evaluated


def _group(row: Row) -> tuple[str, ...]:
    return row["fixed"], row["moving"], row["tool"]


# -- the page -------------------------------------------------------------------------------------


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    lines = ["# Rigid registration of CT and MR heads from random initial poses", ""]
    lines += [*command(results), ABOUT, "", *conditions(results), *table(deviations(results.rows))]
    lines += ["", *failures(results.failed, "{fixed} <- {moving}, pose {pose}, {tool}")]
    write_page(folder, lines)


def deviations(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each pair and tool; the first is the header."""
    head = ["fixed <- moving", "tool", "runs", "failed", "lost"]
    head += [f"deviation, {what}, mm" for what in ("median", "p95", "max")]
    head += ["from identity, median, mm", "max, mm", "wall time, median, s", "max, s"]
    lines = [head]
    for name, tool, group in groups(rows):
        done = [row for row in group if "failed" not in row]
        lost = sum(row["identity_mm"] > LOST_MM for row in done)
        cells = [name, tool, str(len(group)), str(len(group) - len(done)), str(lost)]
        if done:
            away, seconds = ([row[key] for row in done] for key in ("identity_mm", "wall_s"))
            cells += median_p95_max([row["deviation_mm"] for row in done], 2)
            cells += [f"{median(away):.2f}", f"{max(away):.2f}"]
            cells += [f"{median(seconds):.1f}", f"{max(seconds):.1f}"]
        lines.append(cells + [""] * (len(head) - len(cells)))
    return lines


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Pair, tool and rows."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((f"{row['fixed']} <- {row['moving']}", row["tool"]), []).append(row)
    for (name, tool), group in found.items():
        yield name, tool, group
