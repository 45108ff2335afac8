#!/usr/bin/env python3
"""Tables of what scripts/starts.py measured.

    scripts/starts_report.py DIR/starts.jsonl [--out docs/results/starts]

Writes OUT.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from pages import table
from rows import Row, read

SUCCESS_MM = 3.0
KEYS = ("index", "method")  # of a row
ANGLES_DEG = ((0, 20), (20, 40), (40, 60))
KINDS = {"brains": "T1 of two people", "contrasts": "T1 and T2 or FLAIR of one person"}
OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "starts"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figures", type=Path, help="what scripts/starts.py wrote")
    parser.add_argument("--out", type=Path, default=OUT, help="the page, without extension")
    args = parser.parse_args(arguments)
    if not args.figures.is_file():
        raise SystemExit(f"{args.figures} is no file; give the one that scripts/starts.py wrote.")
    write_report(args.figures, args.out)


def write_report(figures: Path, out: Path) -> None:
    """A file of figures to OUT.md."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(markdown(*read_rows(figures)), encoding="utf-8")


def read_rows(path: Path) -> tuple[Row, list[Row]]:
    """The head (machine, threads, seed) and the rows; of equal start and method the last counts."""
    return read(path, KEYS)


def markdown(head: Row, rows: list[Row]) -> str:
    """Success, errors and seconds by method and kind of pair; the same on the starts that all
    methods had; success by angle."""
    lines = ["# Affine registration from random starts", ""]
    lines += [f"Machine: {head['machine']}; threads: {head['threads']}; seed: {head['seed']}.", ""]
    lines += [
        f"Success: a mean error below {SUCCESS_MM:g} mm. Seconds are medians of a start: stn3d's "
        "within a process that has it loaded, file to moved image; greedy's of a process, file to "
        "matrix. How starts and answers are made: scripts/starts.py.",
        "",
    ]
    lines += ["## All starts", "", *table(figures(rows)), ""]
    shared = common(rows)
    if len(shared) < len(rows):
        lines += ["## The starts that every method had", "", *table(figures(shared)), ""]
    lines += ["## Success by angle", "", *table(by_angle(rows)), ""]
    failed = [row for row in rows if "failed" in row]
    lines += [f"- start {row['index']}, {row['method']}: {row['failed']}" for row in failed]
    return "\n".join(lines).rstrip() + "\n"


def common(rows: list[Row]) -> list[Row]:
    """The rows of starts that every method had."""
    methods = {row["method"] for row in rows}
    had: dict[int, set[str]] = {}
    for row in rows:
        had.setdefault(row["index"], set()).add(row["method"])
    return [row for row in rows if had[row["index"]] == methods]


def groups(rows: list[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Kind of pair, method and rows, each kind and then all."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for kind, title in [*KINDS.items(), ("", "all")]:
        for method in methods:
            chosen = [r for r in rows if r["method"] == method and kind in ("", r["kind"])]
            if chosen:
                yield title, method, chosen


def figures(rows: list[Row]) -> list[list[str]]:
    """One line for each kind of pair and method; the first is the head."""
    lines = [["pairs", "method", "success", "median error mm", "largest mm", "wall s", "CPU s"]]
    for title, method, group in groups(rows):
        errors = [math.inf if row["error_mm"] is None else row["error_mm"] for row in group]
        seconds = [_median(group, key) for key in ("wall_s", "cpu_s")]
        cells = [success(group), f"{median(errors):.2f}", f"{max(errors):.1f}", *seconds]
        lines.append([title, method, *cells])
    return lines


def by_angle(rows: list[Row]) -> list[list[str]]:
    """Success in each bin of rotation angles; the first line is the head."""
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
    """Share of starts with an error below the bound, and their number."""
    if not group:
        return ""
    good = sum(row["error_mm"] is not None and row["error_mm"] < SUCCESS_MM for row in group)
    return f"{100 * good / len(group):.1f} % ({good} of {len(group)})"


def _median(group: Sequence[Row], key: str) -> str:
    known = [row[key] for row in group if key in row]
    return f"{median(known):.2f}" if known else ""


if __name__ == "__main__":
    main()
