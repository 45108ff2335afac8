"""Markdown pages: tables, commands and the line on machine and versions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from scripts.bench.store import Results, Row, write_text

PAGE_FILE = "README.md"
QUALITY_STATUSES = ("good", "check", "failed")


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; the first row is the header."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


def command(results: Results) -> list[str]:
    """Lines of a block that shows the commands that made the results."""
    return [*(f"    python -m scripts.bench {x}" for x in results.head["command"].splitlines()), ""]


def conditions(results: Results) -> list[str]:
    """Lines on the machine, the threads and the versions of the tools."""
    threads = f"; threads: {results.head['threads']}" if "threads" in results.head else ""
    lines = [f"Machine: {results.head['machine']}{threads}."]
    found = sorted({row["version"] for row in results.rows if "version" in row} - {"before"})
    found = found or [f"{name} {number}" for name, number in results.head["versions"].items()]
    return [*lines, f"Versions: {', '.join(found)}.", ""]


def failures(rows: Iterable[Row], name: str) -> list[str]:
    """A line for each row that failed.

    Args:
        rows: rows with ``failed``.
        name: format string of a row's name, such as ``"{tool} on {pair}"``.
    """
    return [f"- {name.format_map(row)}: {row['failed']}" for row in rows]


def write_page(folder: Path, lines: Iterable[str]) -> None:
    """Write README.md of a folder of results."""
    write_text(folder / PAGE_FILE, "\n".join(lines).rstrip() + "\n")


def number(value: float | None) -> str:
    """Four significant digits; empty where there is no value."""
    return "" if value is None else f"{value:.4g}"


def percentile(values: Sequence[float], fraction: float) -> float:
    """A quantile by linear interpolation between the sorted values."""
    ordered = sorted(values)
    place = fraction * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def median_p95_max(values: Sequence[float], digits: int) -> list[str]:
    """Three cells; empty where there are no values."""
    if not values:
        return ["", "", ""]
    return [f"{x:.{digits}f}" for x in (median(values), percentile(values, 0.95), max(values))]


def status_counts(statuses: Sequence[str]) -> str:
    """How often the quality check said good, check and failed."""
    counts = [str(statuses.count(status)) for status in QUALITY_STATUSES]
    return " / ".join(counts) if statuses else ""
