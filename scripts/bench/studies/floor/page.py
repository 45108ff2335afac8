"""The page of the memory floor study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.bench.pages import command, table, write_page
from scripts.bench.store import Row, read

REST = "rest"
LABELS = ("floor, ms", "arithmetic, ms", "measured, ms", "ratio")
HEAD = ["stage, grid", "kernel", "calls", "voxels", "MB per call", *LABELS]
NOTE = """
Times are per call; in the rows "rest" they are of all calls. Ratio is the measured time divided by
the floor. "Arithmetic" is the time of a kernel's float32 operations, counted from its formulas, at
the rate of a loop of multiplications and additions in full vector registers: a second lower bound,
which no kernel reaches, since it omits all reads and writes of the caches.

What limits the kernels apart from memory:

* lncc does most for each byte: 2 r additions along each axis for each window sum, of five products
  and of three coefficients for the gradient. Each addition reads and writes rows in the caches.
* gaussian_smooth reads every number of a component once for each neighbour within three sigmas,
  along each axis, and its partial sums as often; a plane is larger than the first-level cache.
* warp, warp_gradient, resample and take_step read 2**d neighbours for each value, at positions that
are
  known only at run time; processors do such reads one by one.
* force reads 2 d neighbours for each value, all but two from other rows, most from the caches.
* diffuse_divergence reads 4 d - 1 neighbours for each value, most of them from the caches.
* apply_boundary_window reads and writes each number once: large levels are bound by memory.
* On the smallest levels the overhead of a call matters, about 0.05 ms."""


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    head, rows = results.head, results.rows
    speed, flops = head["bandwidth_gb_per_s"] * 1e9, head["arithmetic_gflops"] * 1e9
    lines = ["# Kernel times against the memory floor", "", *command(results)]
    lines += [
        f"{' <- '.join(head['images'])}, preset {head['preset']}, {head['threads']} threads on "
        f"{head['machine']}; last-level cache {head['last_cache_mib']:.0f} MiB, load before "
        f"{head['load_before']}. STREAM's triad moves {speed / 1e9:.1f} GB/s; kernels in the "
        f"first-level cache do at most {flops / 1e9:.0f} float32 operations per nanosecond. How "
        "bytes are counted: see the docstring of `scripts/bench/studies/floor`. Minimum of "
        f"{head['repeats']} runs.",
        "",
    ]
    lines += table([["stage, grid", "floor, s", "measured, s", "ratio"], *_sums(rows, speed)])
    lines += ["", *table([HEAD, *[_line(row, speed, flops) for row in rows]]), NOTE]
    write_page(folder, lines)


def _sums(rows: Sequence[Row], speed: float) -> list[list[str]]:
    """A line for each level, each stage, and all stages."""
    lines = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        mine = [row for row in rows if row["stage"] == stage]
        kernels = [row for row in mine if row["kernel"] != REST]
        for level in dict.fromkeys(row["level"] for row in kernels):
            part = [row for row in kernels if row["level"] == level]
            lines.append(_sum(f"{stage}, {level}, kernels", part, speed))
        lines.append(_sum(f"{stage}, all kernels", kernels, speed))
        lines.append(_sum(f"**{stage}, whole stage**", mine, speed))
    return [*lines, _sum("**all stages**", rows, speed)]


def _sum(name: str, rows: Sequence[Row], speed: float) -> list[str]:
    floor_s, took_s = sum(r["bytes"] for r in rows) / speed, sum(r["seconds"] for r in rows)
    return [name, f"{floor_s:.4f}", f"{took_s:.3f}", f"{took_s / floor_s:.1f}"]


def _line(row: Row, speed: float, flops: float) -> list[str]:
    calls = row["calls"] or 1
    floor_ms, took_ms = (1e3 * x / calls for x in (row["bytes"] / speed, row["seconds"]))
    name, took = [f"{row['stage']}, {row['level']}", row["kernel"]], f"{took_ms:.2f}"
    if row["kernel"] == REST:
        return [*name, *[""] * 5, took, ""]
    counts = [str(row["calls"]), str(row["voxels"]), f"{row['bytes'] / calls / 1e6:.2f}"]
    arithmetic = f"{1e3 * row['flops'] / flops / calls:.3f}"
    return [*name, *counts, f"{floor_ms:.3f}", arithmetic, took, f"{took_ms / floor_ms:.1f}"]
