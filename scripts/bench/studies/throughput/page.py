"""The page of the throughput study."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from scripts.bench.pages import command, failures, table, write_page
from scripts.bench.store import Row, read

WHERE = ("machine", "shape", "batch_size", "threads")  # rows with equal values are comparable
KEYS = (*WHERE, "network", "precision")
ABOUT = (
    "Forward, loss, backward, clipping and AdamW on synthetic pairs made beforehand. Networks, "
    "losses and how peak memory is measured: scripts/bench/studies/throughput."
)


def report(folder: Path) -> None:
    """Write README.md: a table for each machine, grid and batch size."""
    results = read(folder)
    lines = ["# Training throughput", "", *command(results), ABOUT, ""]
    places: dict[str, list[Row]] = {}
    for row in results.rows:
        places.setdefault(json.dumps([row[key] for key in WHERE]), []).append(row)
    for place, mine in places.items():
        name, shape, batch_size, threads = json.loads(place)
        size = " x ".join(map(str, shape))
        lines += [f"## {name}", ""]
        lines += [f"Voxels: {size}; pairs per step: {batch_size}; CPU threads: {threads}.", ""]
        lines += [*table(steps([row for row in mine if "failed" not in row])), ""]
        failed = failures([r for r in mine if "failed" in r], "{network}, {precision}, failed")
        lines += [*failed, ""] if failed else []
    write_page(folder, lines)


def steps(rows: Sequence[Row]) -> list[list[str]]:
    """One line for each network and precision; the first is the header."""
    lines = [
        [
            "network",
            "precision",
            "parameters",
            "pairs per second",
            "time per step, s",
            "peak RAM, GB",
        ]
    ]
    for row in rows:
        cells = [f"{row['parameters']:,}", *(f"{row[k]:.3g}" for k in ("pairs_per_s", "step_s"))]
        lines.append([row["network"], row["precision"], *cells, f"{row['peak_gb']:.2f}"])
    return lines
