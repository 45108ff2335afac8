#!/usr/bin/env python3
"""Tables of what scripts/floor.py measured.

    scripts/floor_report.py docs/results/floor.json

Writes OUT.md beside the JSON file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pages import measured_file, table

REST = "rest"
LABELS = ("floor ms", "arithmetic ms", "measured ms", "ratio")
HEAD = ["stage, grid", "loop", "calls", "voxels", "MB a call", *LABELS]
NOTE = """
Times are of one call, in the rest's rows of all calls. Ratio is the measured time to the floor.
"Arithmetic" is the time of a loop's float32 operations, counted from its formulas, at the rate of a
loop of nothing but multiplications and additions in full vector registers: a second floor, which
no loop reaches, since it leaves out all reads and writes of the caches.

What the loops spend their time on instead of memory:

* lncc does most for each byte: 2 r additions along each axis for each window sum, of five products
  and of three coefficients for the slopes. Each addition reads and writes rows in the caches.
* gaussian_smooth reads every number of a component once for each neighbour within three sigmas,
  along each axis, and its sums so far as often; a plane is larger than the first cache.
* warp, warp_gradient, resample and take_step read 2**d neighbours for each value at places that are
  known only then; processors do such reads one by one.
* force reads 2 d neighbours for each value, all but two from other rows, most from the caches.
* diffuse_divergence reads 4 d - 1 neighbours for each value, most of them from the caches.
* apply_boundary_window reads and writes each number once: large levels are bound by memory.
* On the smallest levels a call's own cost counts, about 0.05 ms.
"""
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> None:
    write_report(measured_file(__doc__, arguments, "floor.py"))


def write_report(out: Path) -> None:
    """OUT.json to OUT.md."""
    result = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")


def markdown(result: dict[str, Any]) -> str:
    """The tables as a page."""
    rows, speed = result["rows"], result["bandwidth_gb_per_s"] * 1e9
    flops = result["arithmetic_gflops"] * 1e9
    parts = [
        "# The memory floor\n",
        f"{' <- '.join(result['images'])}, preset {result['preset']}, {result['threads']} threads "
        f"on {result['machine']}; last cache {result['last_cache_mib']:.0f} MiB, load before "
        f"{result['load_before']}. STREAM's triad moves {speed / 1e9:.1f} GB/s; loops in the first "
        f"cache do at most {flops / 1e9:.0f} float32 operations a nanosecond. How bytes are "
        f"counted: see the head of `scripts/floor.py`. Least of {result['repeats']} runs.\n",
        *table([["stage, grid", "floor s", "measured s", "ratio"], *_sums(rows, speed)]),
        "",
        *table([HEAD, *[_line(row, speed, flops) for row in rows]]),
        NOTE,
    ]
    return "\n".join(parts)


def _sums(rows: list[Row], speed: float) -> list[list[str]]:
    """Lines for each level, each stage and all."""
    lines = []
    for stage in dict.fromkeys(row["stage"] for row in rows):
        mine = [row for row in rows if row["stage"] == stage]
        loops = [row for row in mine if row["kernel"] != REST]
        for level in dict.fromkeys(row["level"] for row in loops):
            part = [row for row in loops if row["level"] == level]
            lines.append(_sum(f"{stage}, {level}, loops", part, speed))
        lines.append(_sum(f"{stage}, all loops", loops, speed))
        lines.append(_sum(f"**{stage}, whole stage**", mine, speed))
    return [*lines, _sum("**all stages**", rows, speed)]


def _sum(name: str, rows: list[Row], speed: float) -> list[str]:
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


if __name__ == "__main__":
    main()
