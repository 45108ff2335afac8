"""The page of the initialisation study."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from scripts.bench.pages import command, table, write_page
from scripts.bench.store import Row, read

SUCCESS_MM = 3.0
KEYS = ("index", "method")
ABOUT = f"""\
Success: a mean error below {SUCCESS_MM:g} mm. Times are medians: stn3d's within a process that has
loaded it, from files to the moved image; greedy's of a process, from files to the matrix. Poses and
references: scripts/bench/studies/initialisation."""
ANGLES_DEG = ((0, 20), (20, 40), (40, 60))
KINDS = {"brains": "T1 of two people", "contrasts": "T1 and T2 or FLAIR of one person"}


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    head, rows = results.head, results.done
    lines = ["# Affine registration from random initial poses", "", *command(results)]
    lines += [f"Machine: {head['machine']}; threads: {head['threads']}; seed: {head['seed']}.", ""]
    lines += [ABOUT, ""]
    lines += ["## All poses", "", *table(summary(rows)), ""]
    shared = common(rows)
    if len(shared) < len(rows):
        lines += ["## Poses measured with every method", "", *table(summary(shared)), ""]
    lines += ["## Success by angle", "", *table(by_angle(rows)), ""]
    refused = [row for row in rows if "refused" in row]
    lines += [f"- pose {row['index']}, {row['method']}: {row['refused']}" for row in refused]
    write_page(folder, lines)


def common(rows: Sequence[Row]) -> list[Row]:
    """The rows of poses that were measured with every method."""
    methods = {row["method"] for row in rows}
    had: dict[int, set[str]] = {}
    for row in rows:
        had.setdefault(row["index"], set()).add(row["method"])
    return [row for row in rows if had[row["index"]] == methods]


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Kind of pair, method and rows, each kind and then all."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for kind, title in [*KINDS.items(), ("", "all")]:
        for method in methods:
            chosen = [r for r in rows if r["method"] == method and kind in ("", r["kind"])]
            if chosen:
                yield title, method, chosen


def summary(rows: Sequence[Row]) -> list[list[str]]:
    """One line for each kind of pair and method; the first is the header."""
    lines = [
        [
            "pairs",
            "method",
            "success",
            "median error, mm",
            "largest, mm",
            "wall time, s",
            "CPU time, s",
        ]
    ]
    for title, method, group in groups(rows):
        errors = [
            math.inf if row["true_error_mm"] is None else row["true_error_mm"] for row in group
        ]
        seconds = [_median(group, key) for key in ("wall_s", "cpu_s")]
        cells = [success(group), f"{median(errors):.2f}", f"{max(errors):.1f}", *seconds]
        lines.append([title, method, *cells])
    return lines


def by_angle(rows: Sequence[Row]) -> list[list[str]]:
    """Success in each bin of rotation angles; the first line is the header."""
    lines = [["pairs", "method", *[f"{low} to {high} degrees" for low, high in ANGLES_DEG]]]
    for title, method, group in groups(rows):
        bins = [[r for r in group if low <= r["angle_deg"] < high] for low, high in _closed()]
        lines.append([title, method, *map(success, bins)])
    return lines


def _closed() -> Iterator[tuple[float, float]]:
    """The bins, the last one with its upper end."""
    for low, high in ANGLES_DEG:
        yield low, math.inf if high == ANGLES_DEG[-1][1] else high


def success(group: Sequence[Row]) -> str:
    """Fraction of poses with an error below the limit, and their number."""
    if not group:
        return ""
    good = sum(
        row["true_error_mm"] is not None and row["true_error_mm"] < SUCCESS_MM for row in group
    )
    return f"{100 * good / len(group):.1f} % ({good} of {len(group)})"


def _median(group: Sequence[Row], key: str) -> str:
    known = [row[key] for row in group if key in row]
    return f"{median(known):.2f}" if known else ""
