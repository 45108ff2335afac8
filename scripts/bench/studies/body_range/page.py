"""The page: a line for each kind, then every run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from scripts.bench.pages import (
    command,
    conditions,
    failures,
    number,
    status_counts,
    table,
    write_page,
)
from scripts.bench.pair_report import average, by_tool, runs
from scripts.bench.store import Results, Row, read
from scripts.bench.studies.body_range.kinds import KINDS, Kind
from scripts.bench.tools import BEFORE, is_stn3d

METRICS = {
    "dice": "Dice",
    "tre_mm": "landmarks",
    "tre_inside_mm": "landmarks inside",
    "tre_outside_mm": "landmarks outside",
    "true_error_mm": "error to the truth",
}
ABOUT = """\
Each tool with one setting for all kinds: "stn3d default" is the optimiser alone without networks,
"stn3d --preset default" the command without any option but the files; the others are as in
scripts/bench/baselines.py. Dice is higher, errors in mm (pixels in 2D) are lower where a tool is
better; **bold** marks the best tool, and all within 0.005 of its Dice or 3 % of its error. Other
tools register pictures by their luminance. A number in brackets is that of the pairs that a tool
was run on, if these are not all. Times are means of a run's CPU time in seconds: other work ran on
the machine, so wall times say little."""
BEHIND = """\
Means where another tool, or none, is better than every row of stn3d by more than 0.005 of Dice or
3 % of the error, each over the pairs that both ran."""
_DICE, _ERROR = 0.005, 0.03  # that make no difference


def report(folder: Path) -> None:
    """Write README.md from the stored results."""
    results = read(folder)
    lines = ["# Bodies of many kinds and sizes", "", *command(results), ABOUT, ""]
    lines += [f"- {name}: {KINDS[name].about}" for name in _kinds(results)] + [""]
    lines += [results.head["note"], ""] if "note" in results.head else []
    lines += [*conditions(results), "## Accuracy", "", *table(accuracy(results)), ""]
    lines += ["## Where stn3d is not the best or level", "", BEHIND, ""]
    lines += [*(behind(results) or ["There is none."]), ""]
    lines += ["## Status of stn3d and times", "", *table(statuses(results)), ""]
    lines += ["## All runs", "", *table(runs(results.done)), ""]
    write_page(folder, lines + failures(results.failed, "{tool} failed on {pair}"))


def accuracy(results: Results) -> list[list[str]]:
    """A line for each kind and metric, a column for each tool."""
    tools = list(by_tool(results.done))
    lines = [["kind", "pairs", "metric", *tools]]
    for name in _kinds(results):
        rows = of_kind(results, name)
        pairs = {row["pair"] for row in rows}
        for metric in KINDS[name].metrics:
            found = {t: _known(mine.values(), metric) for t, mine in by_tool(rows).items()}
            means = {t: average(values) for t, values in found.items()}
            best = best_tools(
                metric, {t: means[t] for t, v in found.items() if len(v) == len(pairs)}
            )
            cells = []
            for tool in tools:
                values = found.get(tool, [])
                text = number(means.get(tool))
                text = f"**{text}**" if tool in best else text
                cells.append(f"{text} ({len(values)})" if 0 < len(values) < len(pairs) else text)
            lines.append([name, str(len(pairs)), METRICS[metric], *cells])
    return lines


def behind(results: Results) -> list[str]:
    """A list of the kinds where another tool, on the pairs that both ran, is better than each row
    of stn3d, or the identity is."""
    lines = []
    for name in _kinds(results):
        tools = by_tool(of_kind(results, name))
        ours = [tool for tool in tools if is_stn3d(tool)]
        for metric in KINDS[name].metrics:
            for other in (tool for tool in tools if tool not in ours):
                both = [_on_common(tools, (tool, other), metric) for tool in ours]
                known = [means for means in both if means is not None]
                if known and all(_is_better(metric, *means) for means in known):
                    found = " and ".join(f"{mine:.4g} against {its:.4g}" for mine, its in known)
                    lines.append(f"- {name}, {METRICS[metric]}: {found} by {other}.")
    return lines


def _on_common(
    tools: dict[str, dict[str, Row]], pair_of_tools: tuple[str, str], metric: str
) -> tuple[float, float] | None:
    """The means of two tools over the pairs that both ran; None if there are none."""
    ours, other = (tools[tool] for tool in pair_of_tools)
    common = [
        p for p in ours if p in other and None not in (ours[p].get(metric), other[p].get(metric))
    ]
    if not common:
        return None
    return mean(ours[p][metric] for p in common), mean(other[p][metric] for p in common)


def _is_better(metric: str, ours: float, other: float) -> bool:
    """Whether another tool's mean is better by more than makes no difference."""
    return other > ours + _DICE if metric == "dice" else other * (1 + _ERROR) < ours


def best_tools(metric: str, means: dict[str, float | None]) -> set[str]:
    """The tool with the best mean, and those that are as good; the identity is none."""
    known = {t: mean for t, mean in means.items() if mean is not None and t != BEFORE}
    if not known:
        return set()
    if metric == "dice":
        return {t for t, mean in known.items() if mean >= max(known.values()) - _DICE}
    return {t for t, mean in known.items() if mean <= min(known.values()) * (1 + _ERROR)}


def statuses(results: Results) -> list[list[str]]:
    """A line for each kind: the statuses of stn3d, and the CPU times of all tools."""
    tools = [tool for tool in by_tool(results.done) if tool != BEFORE]
    ours = [tool for tool in tools if is_stn3d(tool)]
    lines = [["kind", *(f"{tool}: good / check / failed" for tool in ours)]]
    lines[0] += [f"{tool}, s" for tool in tools]
    for name in _kinds(results):
        rows = by_tool(of_kind(results, name))
        counts = [
            status_counts([row["quality_status"] for row in rows.get(tool, {}).values()])
            for tool in ours
        ]
        times = [average(_known(rows.get(tool, {}).values(), "cpu_s")) for tool in tools]
        lines.append([_titled(name, KINDS[name]), *counts, *map(number, times)])
    return lines


def of_kind(results: Results, name: str) -> list[Row]:
    """The rows of a kind."""
    return [row for row in results.done if row["split"] == name]


def _titled(name: str, kind: Kind) -> str:
    return name if kind.related else f"{name} (unrelated)"


def _kinds(results: Results) -> list[str]:
    return [name for name in KINDS if of_kind(results, name)]


def _known(rows: Iterable[Row], key: str) -> list[float]:
    return [row[key] for row in rows if row.get(key) is not None]
