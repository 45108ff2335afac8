"""Time and memory of ``stn3d register`` against the size of the images, with synthetic pairs.

    python -m scripts.bench scaling run [--sizes 64,128,192,256] [--largest] [--max-memory 6]

A pair is blobs with noise that fill a cube (with --largest also 512 x 512 x 400 voxels) of 1 mm
voxels, 16 bits each; the moving image is the same, translated and deformed by a few millimetres.
Each is registered by a process of its own. Of --repeats runs the minimum of each cost is kept.
"""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.pages import command, conditions, table, write_page
from scripts.bench.paths import ROOT
from scripts.bench.plots import COLOURS, PLOT_FILE, new_figure, save_figure
from scripts.bench.process import run_process
from scripts.bench.store import Row, Store, read

LARGEST = (512, 512, 400)
COSTS = ("wall_s", "cpu_s", "peak_gb")
KEYS = ("size",)
ABOUT = """\
Synthetic pairs: blobs with noise that fill the image, 1 mm voxels of 16 bits; the moving image is
translated and deformed by a few millimetres. Costs are those of the whole process, from files to
files; "estimated" is the peak memory that stn3d predicts before it starts."""


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    sizes: str = option("64,128,192,256", "edges of cubes, in voxels")
    largest: bool = option(False, "512 x 512 x 400 voxels too")
    max_memory: float | None = option(None, "memory limit of every registration, GB")
    options: str = option("", "further options of stn3d register")
    repeats: int = option(1, "runs of each size")
    again: bool = option(False, "measure sizes that have an outcome too")


def run(options: Options) -> None:
    """Measure the sizes that are not measured yet, then report."""
    words = ["--threads", str(options.threads), *shlex.split(options.options)]
    words += [] if options.max_memory is None else ["--max-memory", str(options.max_memory)]
    shared = {"machine": machine(), "threads": options.threads, "options": shlex.join(words)}
    store = Store(options.out, "scaling", KEYS, shared, command=command_line("scaling", options))
    shapes = [(int(n),) * 3 for n in options.sizes.split(",") if n]
    shapes += [LARGEST] if options.largest else []
    wanted: list[Row] = [{"size": "x".join(map(str, s)), "voxels": math.prod(s)} for s in shapes]
    if options.again or any(not store.has(row) for row in wanted):
        measured(words, 1, {"size": "32x32x32"})  # compiles the kernels where necessary
    store.measure(wanted, partial(measured, words, options.repeats), options.again)
    report(options.out)


def measured(options: Sequence[str], repeats: int, row: Row) -> Row:
    """Register one synthetic pair: cost, estimated memory and finest level."""
    with tempfile.TemporaryDirectory() as folder:
        make = [sys.executable, "-m", "scripts.bench.synthetic_pairs", row["size"], folder]
        subprocess.run(make, check=True, cwd=ROOT)
        images = [str(Path(folder) / f"{role}.nii.gz") for role in ("fixed", "moving")]
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "stn3d", "register", *images, "--out", str(out), *options]
        costs = [run_process(command) for _ in range(repeats)]
        metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    found: Row = {key: min(cost[key] for cost in costs) for key in COSTS}
    found |= {key: metrics["memory"][key] for key in ("estimated_gb", "note")}
    found["finest_mm"] = metrics["stages"][-1]["spacing_mm"]
    found["correlation"] = [metrics[when]["correlation"] for when in ("before", "after")]
    return found


# -- the page -------------------------------------------------------------------------------------


def report(folder: Path) -> None:
    """Write README.md and plot.svg."""
    results = read(folder)
    rows = sorted(results.done, key=lambda row: int(row["voxels"]))
    lines = ["# Time and memory against image size", "", *command(results), ABOUT, ""]
    lines += [*conditions(results)[:-1], f"Options: `{results.head['options']}`.", ""]
    if plot(rows, folder / PLOT_FILE):
        lines += [f"![Time and memory against the number of voxels]({PLOT_FILE})", ""]
    lines += table(sizes(rows))
    notes = [f"- {row['size']}: {row['note']}" for row in rows if row["note"]]
    write_page(folder, [*lines, *(["", *notes] if notes else [])])


def sizes(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each size; the first is the header."""
    head = ["size, voxels", "million voxels", "wall time, s", "CPU time, s", "peak RAM, GB"]
    lines = [[*head, "estimated, GB", "finest level, mm", "CPU time per million voxels, s"]]
    for row in rows:
        million = row["voxels"] / 1e6
        values = [million, *(row[key] for key in (*COSTS, "estimated_gb", "finest_mm"))]
        lines.append([row["size"], *(f"{x:.4g}" for x in (*values, row["cpu_s"] / million))])
    return lines


def plot(rows: Sequence[Row], path: Path) -> bool:
    """Draw time and memory against the number of voxels; False without matplotlib."""
    figure = new_figure(9, 4)
    if figure is None:
        return False
    million = [row["voxels"] / 1e6 for row in rows]
    names = {
        "wall_s": "wall time",
        "cpu_s": "CPU time",
        "peak_gb": "measured",
        "estimated_gb": "estimated",
    }
    panels = {"time, s": ("wall_s", "cpu_s"), "peak RAM, GB": ("peak_gb", "estimated_gb")}
    for axes, (label, keys) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for key, style in zip(keys, ("o-", "s--"), strict=True):
            values = [row[key] for row in rows]
            axes.plot(million, values, style, color=COLOURS["stn3d"], label=names[key])
        axes.set(xlabel="million voxels", ylabel=label, ylim=(0, None), xlim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle("Time and memory of stn3d register against image size")
    save_figure(figure, path)
    return True
