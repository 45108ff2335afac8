#!/usr/bin/env python3
"""Tables of what scripts/floor.py measured.

    scripts/floor_report.py docs/results/floor.json

Writes OUT.md beside the JSON file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

REST = "rest"
HEAD = """\
| stage, grid | loop | calls | voxels | MB a call | floor ms | arithmetic ms | measured ms | ratio |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |"""
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
* warp and take_step read 2**d neighbours for each value at places that are known only then;
  processors do such reads one by one.
* diffuse_divergence reads 4 d - 1 neighbours for each value, most of them from the caches.
* taper reads and writes each number once: it is bound by memory where the level is large.
* On the smallest levels a call's own cost counts, about 0.05 ms.
"""
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("json", type=Path, help="what scripts/floor.py wrote")
    args = parser.parse_args(arguments)
    if not args.json.is_file():
        raise SystemExit(f"{args.json} is no file; give the JSON that scripts/floor.py wrote.")
    write_report(args.json.with_suffix(""))


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
        "| stage, grid | floor s | measured s | ratio |\n| --- | --- | --- | --- |",
        *_sums(rows, speed),
        "",
        HEAD,
        *[_line(row, speed, flops) for row in rows],
        NOTE,
    ]
    return "\n".join(parts)


def _sums(rows: list[Row], speed: float) -> list[str]:
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


def _sum(name: str, rows: list[Row], speed: float) -> str:
    floor_s, took_s = sum(r["bytes"] for r in rows) / speed, sum(r["seconds"] for r in rows)
    return f"| {name} | {floor_s:.4f} | {took_s:.3f} | {took_s / floor_s:.1f} |"


def _line(row: Row, speed: float, flops: float) -> str:
    calls = row["calls"] or 1
    floor_ms, took_ms = (1e3 * x / calls for x in (row["bytes"] / speed, row["seconds"]))
    arithmetic = f"{1e3 * row['flops'] / flops / calls:.3f}" if row["flops"] else ""
    return (
        f"| {row['stage']}, {row['level']} | {row['kernel']} | {row['calls'] or ''} | "
        f"{row['voxels'] or ''} | {row['bytes'] / calls / 1e6:.2f} | {floor_ms:.3f} | "
        f"{arithmetic} | {took_ms:.2f} | {took_ms / floor_ms:.1f} |"
    )


if __name__ == "__main__":
    main()
