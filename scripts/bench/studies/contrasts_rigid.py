"""Rigid registration of one person's MR contrasts under known transforms, also by other tools.

    python -m scripts.bench contrasts_rigid run --work DIR [--count 20] [--options "--metric auto"]
        [--pairs "t1 t2,t2 t1,..."] [--others ants-rigid,elastix-rigid,greedy-rigid]

A pair is "FIXED MOVING", two MR contrasts of shared/data/contrasts. The moving one is rotated by
up to 30 degrees about each axis and translated by up to 20 mm along each, with noise and a bias
field, by shared/bench/make_truth.py with the seeds 1 to --count. A pair takes 47 MB, so each is
made, registered by every tool, evaluated and deleted. Every run is a process of its own, from
files to files; stn3d is ``stn3d register --kind rigid`` with --options.

Run it again with other --options or --others to add a tool.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from scripts.bench.images import foreground_points_mm
from scripts.bench.known_truth import contrast_pairs, make_contrast_pair
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option, required
from scripts.bench.pages import command, conditions, failures, median_p95_max, table, write_page
from scripts.bench.paths import contrast_path
from scripts.bench.process import failure_reason
from scripts.bench.rigid_metrics import (
    Floats,
    distances_mm,
    mean_p95_max,
    motion,
    read_matrix,
    rigid_matrix,
    transformed,
    without_common_motion,
)
from scripts.bench.store import Row, Store, read
from scripts.bench.tools import available, register_pair

PAIRS = "t1 t2,t2 t1,t1 flair,flair t1post,t1 t1post,t2 flair"
TRUTH = ("--amplitude-mm", "0", "--scale", "1", "--rot-deg", "30", "--shift-mm", "20")
KEYS = ("fixed", "moving", "seed", "tool")
LOST_MM = 3.0
ABOUT = """\
MR contrasts of one person; the moving one is rotated by up to 30 degrees about each axis and
translated by up to 20 mm along each (shared/bench/make_truth.py --amplitude-mm 0 --scale 1
--rot-deg 30 --shift-mm 20), with noise and a bias field. The error of a run is the mean distance in
mm to the true transform over the fixed foreground; median, 95th percentile and maximum are over
seeds. Times are wall times of a whole process, from files to files."""
REPEATABILITY = """\
The truth is no better than the published co-registration of the contrasts. Different similarity
metrics agree that it is off by 0.2 to 0.33 mm, constant for each pair. Therefore this table removes
from each run's error the mean rigid motion truth^-1 found of the *other* seeds of the same tool and
pair (a mean of six numbers: a rotation vector, and the displacement of the foreground's centre).
What remains is how well a tool repeats itself from seed to seed. It is not an error against a
truth: a tool that is always wrong by the same motion has none. "Common" is the motion that all
seeds share: the displacement of the foreground's centre in mm and the rotation in degrees. Lost
runs (3 mm or more) are excluded."""


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    work: Path = required("folder for the pairs")
    pairs: str = option(PAIRS, "pairs of contrasts, fixed and moving")
    count: int = option(20, "seeds of each pair")
    options: str = option("--metric auto", "options of stn3d register")
    others: str = option("ants-rigid,elastix-rigid,greedy-rigid", 'other tools; "" for none')
    tools_python: str = option(sys.executable, "the Python interpreter that has the other tools")


def run(options: Options) -> None:
    """Measure what is not measured yet, then report."""
    wanted = [f"stn3d --kind rigid {options.options}".strip(), *options.others.split(",")]
    tools = available([tool for tool in wanted if tool], options.tools_python)
    shared = {"machine": machine(), "threads": options.threads}
    text = command_line("contrasts_rigid", options)
    store = Store(options.out, "contrasts_rigid", KEYS, shared, command=text)
    for fixed, moving, seed in cases(options.pairs, options.count):
        case: Row = {"fixed": fixed, "moving": moving, "seed": seed}
        rows = [case | {"tool": tool, "version": tools[tool]} for tool in tools]
        rows = [row for row in rows if not store.has(row)]
        if not rows:
            continue
        pair = make_contrast_pair(options.work / "pairs" / fixed, moving, seed, fixed, TRUTH)
        for row in rows:
            how = (options.threads, options.tools_python)
            store.add(row | measured(row["tool"], contrast_path(fixed), pair, *how))
        shutil.rmtree(pair)
    store.replace(with_repeatability(store.rows))
    report(options.out)


def cases(pairs: str, count: int) -> Iterator[tuple[str, str, int]]:
    """Fixed and moving contrast and seed, seed by seed, so that a partial run has all pairs.

    Raises:
        SystemExit: a pair is not two names.
    """
    named = contrast_pairs(pairs)
    for seed in range(1, count + 1):
        for fixed, moving in named:
            yield fixed, moving, seed


def measured(tool: str, fixed: Path, pair: Path, threads: int, tools_python: str) -> Row:
    """One run: its error, its residual motion and its cost, or ``failed``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        images = (str(fixed), str(pair / "moving.nii.gz"))
        points = foreground_points_mm(fixed).numpy()
        try:
            cost = register_pair(tool, images, out, threads, tools_python)
            found = read_matrix(out / "transform.h5", points)
        except subprocess.CalledProcessError as error:
            return {"failed": failure_reason(error)}
    return metrics(read_matrix(pair / "truth.h5", points), found, points) | cost


def metrics(truth: Floats, found: Floats, points_mm: Floats) -> Row:
    """``true_error_mm`` over the points, and ``residual``, the motion of truth^-1 found."""
    residual = motion(np.linalg.inv(truth) @ found, points_mm.mean(0))
    gaps = distances_mm(transformed(found, points_mm), transformed(truth, points_mm))
    return {
        "true_error_mm": mean_p95_max(gaps),
        "residual": [round(float(x), 7) for x in residual],
    }


def with_repeatability(rows: Sequence[Row]) -> list[Row]:
    """The rows with ``repeatability_mm``: the mean distance that remains of each residual without
    the mean motion of the same pair's and tool's other seeds that were not lost."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if "failed" not in row and row["true_error_mm"]["mean"] < LOST_MM:
            groups.setdefault((row["fixed"], row["moving"], row["tool"]), []).append(row)
    left: dict[int, Any] = {}
    for (fixed, *_), group in groups.items():
        points = foreground_points_mm(contrast_path(fixed)).numpy()[::10]
        centre = points.mean(0)
        residuals = [
            rigid_matrix(row["residual"][:3], row["residual"][3:], centre) for row in group
        ]
        for row, distances in zip(group, without_common_motion(residuals, points), strict=True):
            left[id(row)] = None if distances is None else round(float(distances.mean()), 4)
    return [row | {"repeatability_mm": left.get(id(row))} for row in rows]


# -- the page -------------------------------------------------------------------------------------


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    lines = ["# Rigid registration of one person's MR contrasts", "", *command(results)]
    lines += [ABOUT, "", *conditions(results)]
    lines += ["## Error against the truth", "", *table(errors(results.rows)), ""]
    lines += ["## Repeatability", "", REPEATABILITY, "", *table(repeatability(results.rows)), ""]
    lines += failures(results.failed, "{fixed} <- {moving}, seed {seed}, {tool}")
    write_page(folder, lines)


def errors(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each pair and tool, then for all pairs; the first is the header."""
    head = ["fixed <- moving", "tool", "runs", "median, mm", "p95, mm", "max, mm", "below 1 mm"]
    lines = [[*head, "wall time, median, s", "max, s"]]
    for name, tool, group in groups(rows):
        done = [row for row in group if "failed" not in row]
        found = [row["true_error_mm"]["mean"] for row in done]
        below = sum(error < 1 for error in found)
        share = f"{100 * below / len(group):.0f} % ({below} of {len(group)})"
        seconds = [row["wall_s"] for row in done]
        functions: tuple[Callable[[list[float]], float], ...] = (median, max)
        times = [f"{f(seconds):.1f}" for f in functions] if done else ["", ""]
        lines.append([name, tool, str(len(group)), *median_p95_max(found, 3), share, *times])
    return lines


def repeatability(rows: Sequence[Row]) -> list[list[str]]:
    """The same for ``repeatability_mm``."""
    head = ["fixed <- moving", "tool", "runs", "median, mm", "p95, mm", "max, mm"]
    lines = [[*head, "common displacement, mm", "common rotation, deg"]]
    for name, tool, group in groups(rows):
        kept = [row for row in group if row.get("repeatability_mm") is not None]
        cells = ["", ""]
        if kept and name != "all":
            common = np.mean([row["residual"] for row in kept], axis=0)
            shift, turn = (float(np.linalg.norm(part)) for part in (common[3:], common[:3]))
            cells = [f"{shift:.3f}", f"{np.rad2deg(turn):.3f}"]
        three = median_p95_max([row["repeatability_mm"] for row in kept], 3)
        lines.append([name, tool, str(len(kept)), *three, *cells])
    return lines


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Pair, tool and rows; then all pairs by tool."""
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    for name in [*dict.fromkeys(map(_name, rows)), "all"]:
        for tool in tools:
            chosen = [r for r in rows if r["tool"] == tool and name in ("all", _name(r))]
            if chosen:
                yield name, tool, chosen


def _name(row: Row) -> str:
    return f"{row['fixed']} <- {row['moving']}"
