#!/usr/bin/env python3
"""Tables and a plot of what scripts/benchmark.py measured.

    scripts/benchmark_report.py docs/results/brains.json

Writes OUT.md and, where matplotlib is installed, OUT.svg beside the JSON file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

from pages import measured_file, new_figure, save_figure, table

QUALITIES = ("dice", "hd95_mm", "folding_pct", "sd_log_jac", "error_mm", "tre_mm")
PRESETS = ("fast", "default", "accurate")  # of the optimiser
COSTS = ("wall_s", "cpu_s", "peak_gb")
FIGURES = (*QUALITIES, *COSTS)
LABELS = (
    *("Dice", "HD95 mm", "folding %", "sd log J", "error mm", "TRE mm"),
    *("wall s", "CPU s", "peak GB"),
)
LABEL = dict(zip(FIGURES, LABELS, strict=True))
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> None:
    write_report(measured_file(__doc__, arguments, "benchmark.py"))


def write_report(out: Path) -> None:
    """OUT.json to OUT.md and OUT.svg; without matplotlib it says so and leaves the plot out."""
    result = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    drawn = plot(result, out.with_suffix(".svg"))
    text = markdown(result, out.with_suffix(".svg").name if drawn else None)
    out.with_suffix(".md").write_text(text, encoding="utf-8")


def markdown(result: dict[str, Any], plot_name: str | None = None) -> str:
    """Means of each split and of all pairs, the networks beside the optimiser, stn3d's cost over
    the peers', then every run."""
    rows = scored(result)
    lines = [result["about"], ""] if "about" in result else []
    lines += [f"Machine: {result['machine']}; {result['threads']} threads."]
    lines += ["Versions: " + ", ".join(sorted({row["version"] for row in rows})) + ".", ""]
    if plot_name:
        lines += [f"![quality against wall seconds]({plot_name})", ""]
    for title, group in groups(result):
        lines += [f"## Means, {title}", "", *table(_means(group)), ""]
        gains = _gains(group)
        if len(gains) > 1:
            lines += [f"## Networks beside the optimiser, {title}", "", *table(gains), ""]
        ratios = _ratios(group)
        if len(ratios) > 1:
            lines += [f"## Cost of stn3d over the peers', {title}", "", *table(ratios), ""]
    lines += ["## Every run", "", *table(_runs(rows)), ""]
    failed = [row for row in result["rows"] if "failed" in row]
    lines += [f"- {row['tool']} failed on {row['pair']}: {row['failed']}" for row in failed]
    return "\n".join(lines).rstrip() + "\n"


def plot(result: dict[str, Any], path: Path) -> bool:
    """Draw Dice (without labels, the error) against wall seconds; False if it cannot."""
    title, rows = plotted(result)
    quality = next((key for key in ("dice", "error_mm") if key in _shown(rows)), None)
    if quality is None:
        return False
    figure = new_figure(7, 4.5)
    if figure is None:
        return False
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes = figure.subplots()
    axes.set(xscale="log", xlabel="wall seconds", ylabel=LABEL[quality], title=f"Means, {title}")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    curve, peers, networks = places(rows, quality)
    for points, style in ((curve, "o-"), (peers, "s"), (networks, "D")):
        if not points:
            continue
        axes.plot([x for x, _ in points.values()], [y for _, y in points.values()], style)
        for tool, point in points.items():
            axes.annotate(tool, point, (6, 5), textcoords="offset points", fontsize=9)
    axes.margins(0.15)
    save_figure(figure, path)
    return True


def places(rows: list[Row], quality: str) -> tuple[dict[str, Any], ...]:
    """Mean wall seconds and quality of the presets, fastest first, of the peers, and of stn3d with
    networks."""
    found = {}
    for tool, runs in by_tool(rows).items():
        point = tuple(average(row.get(key) for row in runs.values()) for key in ("wall_s", quality))
        if None not in point:
            found[tool] = point
    presets = sorted(filter(is_preset, found), key=lambda tool: found[tool])
    peers = [tool for tool in found if not is_stn3d(tool)]
    networks = list(filter(is_network, found))
    return tuple({tool: found[tool] for tool in tools} for tools in (presets, peers, networks))


def groups(result: dict[str, Any]) -> list[tuple[str, list[Row]]]:
    """A title and the runs of each split, and of all pairs; one alone where they are the same."""
    rows, splits = scored(result), result["splits"]
    names = sorted({splits[row["pair"]] for row in rows} - {""})
    found = [(name, [row for row in rows if splits[row["pair"]] == name]) for name in names]
    if [mine for _, mine in found] != [rows]:
        found.append(("all", rows))
    return [(f"{name} pairs ({len({row['pair'] for row in mine})})", mine) for name, mine in found]


def plotted(result: dict[str, Any]) -> tuple[str, list[Row]]:
    """What the plot shows: the reported pairs, or all where none is named so."""
    found = groups(result)
    return next((group for group in found if group[0].startswith("reported ")), found[-1])


def scored(result: dict[str, Any]) -> list[Row]:
    """The runs that came to their end."""
    return [row for row in result["rows"] if "failed" not in row]


def by_tool(rows: list[Row]) -> dict[str, dict[str, Row]]:
    """Runs by tool and pair, in the order in which they stand."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row["tool"], {})[row["pair"]] = row
    return found


def is_stn3d(tool: str) -> bool:
    return tool.startswith("stn3d ")


def is_preset(tool: str) -> bool:
    """Whether this is the optimiser alone."""
    return is_stn3d(tool) and tool.removeprefix("stn3d ") in PRESETS


def is_network(tool: str) -> bool:
    return is_stn3d(tool) and not is_preset(tool)


def average(values: Iterable[float | None]) -> float | None:
    """The mean of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _means(rows: list[Row]) -> list[list[str]]:
    shown = _shown(rows)
    judged = any("verdict" in row for row in rows)
    lines = [["tool", "pairs", *(LABEL[key] for key in shown)]]
    lines[0] += ["good / check / failed"] if judged else []
    for tool, runs in by_tool(rows).items():
        cells = [_cell(average(row.get(key) for row in runs.values())) for key in shown]
        cells += [_verdicts(list(runs.values()))] if judged else []
        lines.append([tool, str(len(runs)), *cells])
    return lines


def _verdicts(runs: list[Row]) -> str:
    """How often stn3d itself said what of its outcome."""
    words = [row["verdict"] for row in runs if "verdict" in row]
    counts = [str(words.count(word)) for word in ("good", "check", "failed")]
    return " / ".join(counts) if words else ""


def _gains(rows: list[Row]) -> list[list[str]]:
    """Means over pairs of what networks change: differences of quality, ratios of cost."""
    tools = by_tool(rows)
    qualities = [key for key in ("dice", "error_mm") if key in _shown(rows)]
    head = [*(f"{LABEL[key]}, difference" for key in qualities), *(LABEL[key] for key in COSTS)]
    lines = [["network / optimiser", "pairs", *head]]
    for network, mine in tools.items():
        for preset, theirs in tools.items():
            both = [(mine[pair], theirs[pair]) for pair in mine if pair in theirs]
            if is_network(network) and is_preset(preset) and both:
                cells = [average(_difference(*pair, key) for pair in both) for key in qualities]
                cells += [average(a[key] / b[key] for a, b in both) for key in COSTS]
                lines.append([f"{network} / {preset}", str(len(both)), *map(_cell, cells)])
    return lines


def _difference(row: Row, other: Row, key: str) -> float | None:
    values = row.get(key), other.get(key)
    return None if None in values else values[0] - values[1]


def _ratios(rows: list[Row]) -> list[list[str]]:
    """Means over pairs of a preset's cost over a peer's on the same pair."""
    tools = by_tool(rows)
    lines = [["stn3d / peer", "pairs", *(LABEL[key] for key in COSTS)]]
    for preset, mine in tools.items():
        for peer, theirs in tools.items():
            both = [pair for pair in mine if "wall_s" in theirs.get(pair, {})]
            if is_stn3d(preset) and not is_stn3d(peer) and both:
                ratios = [average(mine[p][key] / theirs[p][key] for p in both) for key in COSTS]
                lines.append([f"{preset} / {peer}", str(len(both)), *map(_cell, ratios)])
    return lines


def _runs(rows: list[Row]) -> list[list[str]]:
    shown = _shown(rows)
    head = ["pair", "tool", *(LABEL[key] for key in shown)]
    lines = [[r["pair"], r["tool"], *(_cell(r.get(key)) for key in shown)] for r in rows]
    if any("verdict" in row for row in rows):
        head.append("verdict")
        for line, row in zip(lines, rows, strict=True):
            line.append(row.get("verdict", ""))
    return [head, *lines]


def _shown(rows: list[Row]) -> list[str]:
    return [key for key in FIGURES if any(row.get(key) is not None for row in rows)]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    main()
