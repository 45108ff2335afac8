"""The page and the plot of results that `scripts.bench.pair_benchmark` measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from scripts.bench.pages import (
    command,
    conditions,
    failures,
    number,
    status_counts,
    table,
    write_page,
)
from scripts.bench.plots import (
    PLOT_FILE,
    colour_of,
    log_seconds_axis,
    markers_of,
    new_figure,
    save_figure,
)
from scripts.bench.store import Results, Row, read
from scripts.bench.tools import METRICS, is_preset, is_stn3d

LABELS = {
    "dice": "Dice",
    "hd95_mm": "HD95, mm",
    "hd95_pooled_mm": "pooled P95 distance, mm",
    "folding_pct": "folded voxels, %",
    "log_jacobian_sd": "SD of log-Jacobian",
    "true_error_mm": "error, mm",
    "tre_mm": "TRE, mm",
    "wall_s": "wall time, s",
    "cpu_s": "CPU time, s",
    "peak_gb": "peak RAM, GB",
}
SHOWN = ("dice", "hd95_mm", "hd95_pooled_mm", *METRICS[2:])
COSTS = ("wall_s", "cpu_s", "peak_gb")
QUALITIES = {
    "dice": "Dice",
    "true_error_mm": "error to the true transform, mm",
    "tre_mm": "TRE, mm",
}
HELD_OUT = "held-out"
POOLED_NOTE = """\
Pooled P95 distance: the 95th percentile of the surface distances of both directions taken together,
which stn3d reported before v0.2. HD95 as published, which it reports since, is the larger of the
two directed 95th percentiles and is at least as large. These transforms were not evaluated
again."""
HD95_NOTE = (
    "HD95: the larger of the two directed 95th percentiles of surface distances, as in MONAI."
)
Rows = Sequence[Row]


def write_report(folder: Path, title: str, about: str = "") -> None:
    """README.md and, where matplotlib is installed, plot.svg from the stored results.

    Args:
        folder: holds results.json.
        title: of the page, unless the results' head has a ``title``.
        about: text on the pairs, unless the results' head has an ``about``.
    """
    results = read(folder)
    title, about = results.head.get("title", title), results.head.get("about", about)
    drawn = plot(results, title, folder / PLOT_FILE)
    lines = [f"# {title}", "", *command(results), *([about.strip(), ""] if about else [])]
    write_page(folder, [*lines, *markdown(results, drawn)])


def markdown(results: Results, plotted: bool = False) -> list[str]:
    """Means of each split and of all pairs, comparisons of cost, then every run."""
    rows = results.done
    lines = conditions(results)
    for metric, note in (("hd95_mm", HD95_NOTE), ("hd95_pooled_mm", POOLED_NOTE)):
        if any(metric in row for row in rows):
            lines += [note, ""]
    if plotted:
        lines += [f"![Quality against wall time]({PLOT_FILE})", ""]
    for title, group in groups(rows):
        lines += [f"## Means, {title}", "", *table(means(group)), ""]
        gains = network_gains(group)
        if len(gains) > 1:
            lines += [f"## Networks relative to the optimiser, {title}", "", *table(gains), ""]
        ratios = cost_ratios(group)
        if len(ratios) > 1:
            lines += [f"## Cost of stn3d relative to other tools, {title}", "", *table(ratios), ""]
    lines += ["## All runs", "", *table(runs(rows)), ""]
    return lines + failures(results.failed, "{tool} failed on {pair}")


def groups(rows: Rows) -> list[tuple[str, list[Row]]]:
    """A title and the rows of each split, then of all pairs; one only where these are the same."""
    names = sorted({row["split"] for row in rows} - {""})
    found = [(name, [row for row in rows if row["split"] == name]) for name in names]
    if [mine for _, mine in found] != [list(rows)]:
        found.append(("all", list(rows)))
    return [(f"{name} pairs ({len({row['pair'] for row in mine})})", mine) for name, mine in found]


def panels(rows: Rows) -> list[tuple[str, list[Row]]]:
    """The groups of the plot: the held-out pairs if there are any, else every split, or all."""
    found = groups(rows)
    held_out = [group for group in found if group[0].startswith(HELD_OUT)]
    return held_out or (found[:-1] if len(found) > 1 else found)


def by_tool(rows: Rows) -> dict[str, dict[str, Row]]:
    """Rows by tool and pair, in their order."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row["tool"], {})[row["pair"]] = row
    return found


def is_network(tool: str) -> bool:
    """Whether a tool is stn3d with networks."""
    return tool.startswith(("stn3d network", "stn3d both"))


def average(values: Iterable[float | None]) -> float | None:
    """The mean of the known values; None where there is none."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


# -- tables ---------------------------------------------------------------------------------------


def shown(rows: Rows) -> list[str]:
    """The metrics that any row has."""
    return [key for key in SHOWN if any(row.get(key) is not None for row in rows)]


def means(rows: Rows) -> list[list[str]]:
    """Means over pairs, a line for each tool; the first line is the header."""
    keys, checked = shown(rows), any("quality_status" in row for row in rows)
    lines = [["tool", "pairs", *(LABELS[key] for key in keys)]]
    lines[0] += ["good / check / failed"] if checked else []
    for tool, found in by_tool(rows).items():
        cells = [number(average(row.get(key) for row in found.values())) for key in keys]
        statuses = [row["quality_status"] for row in found.values() if "quality_status" in row]
        cells += [status_counts(statuses)] if checked else []
        lines.append([tool, str(len(found)), *cells])
    return lines


def network_gains(rows: Rows) -> list[list[str]]:
    """Means over pairs of networks against presets: differences of quality, ratios of cost."""
    tools = by_tool(rows)
    qualities = [key for key in ("dice", "true_error_mm") if key in shown(rows)]
    head = [*(f"{LABELS[key]}, difference" for key in qualities)]
    head += [f"{LABELS[key].partition(',')[0]}, ratio" for key in COSTS]
    lines = [["network / optimiser", "pairs", *head]]
    for network, mine in tools.items():
        for preset, theirs in tools.items():
            both = [(mine[pair], theirs[pair]) for pair in mine if pair in theirs]
            if is_network(network) and is_preset(preset) and both:
                cells = [average(_difference(*pair, key) for pair in both) for key in qualities]
                cells += [average(a[key] / b[key] for a, b in both) for key in COSTS]
                lines.append([f"{network} / {preset}", str(len(both)), *map(number, cells)])
    return lines


def _difference(row: Row, other: Row, key: str) -> float | None:
    a, b = row.get(key), other.get(key)
    return None if a is None or b is None else float(a - b)


def cost_ratios(rows: Rows) -> list[list[str]]:
    """Means over pairs of stn3d's cost divided by another tool's on the same pair."""
    tools = by_tool(rows)
    head = [f"{LABELS[key].partition(',')[0]}, ratio" for key in COSTS]
    lines = [["stn3d / other tool", "pairs", *head]]
    for ours, mine in tools.items():
        for other, theirs in tools.items():
            both = [pair for pair in mine if "wall_s" in theirs.get(pair, {})]
            if is_stn3d(ours) and not is_stn3d(other) and both:
                ratios = [average(mine[p][key] / theirs[p][key] for p in both) for key in COSTS]
                lines.append([f"{ours} / {other}", str(len(both)), *map(number, ratios)])
    return lines


def runs(rows: Rows) -> list[list[str]]:
    """A line for each run; the first line is the header."""
    keys, checked = shown(rows), any("quality_status" in row for row in rows)
    head = ["pair", "tool", *(LABELS[key] for key in keys)]
    lines = [[r["pair"], r["tool"], *(number(r.get(key)) for key in keys)] for r in rows]
    if checked:
        head.append("quality check")
        lines = [
            [*line, row.get("quality_status", "")] for line, row in zip(lines, rows, strict=True)
        ]
    return [head, *lines]


# -- the plot -------------------------------------------------------------------------------------


def places(rows: Rows, quality: str) -> dict[str, tuple[float, float]]:
    """Mean wall seconds and quality of each tool that has both; stn3d's presets first, by time."""
    found = {}
    for tool, mine in by_tool(rows).items():
        x, y = (average(row.get(key) for row in mine.values()) for key in ("wall_s", quality))
        if x is not None and y is not None:
            found[tool] = (x, y)
    presets = sorted(filter(is_preset, found), key=lambda tool: found[tool])
    return {tool: found[tool] for tool in [*presets, *(t for t in found if t not in presets)]}


def plot(results: Results, title: str, path: Path) -> bool:
    """Draw quality against wall time, a panel for each group; False if it cannot."""
    parts = panels(results.done)
    quality = next((key for key in QUALITIES if key in shown(results.done)), None)
    if quality is None:
        return False
    columns = min(3, len(parts))
    lines = math.ceil(len(parts) / columns)
    figure = new_figure(2.2 + 4.0 * columns, 1.2 + 3.4 * lines)
    if figure is None:
        return False
    tools = list(dict.fromkeys(t for _, rows in parts for t in places(rows, quality)))
    markers = markers_of(tools)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    handles: dict[str, Any] = {}
    for axes, (name, rows) in zip(grid.flat, parts, strict=False):
        handles |= _draw_panel(axes, places(rows, quality), markers)
        axes.set_title(f"mean of {name}", fontsize=10)
    for axes in grid[:, 0]:
        axes.set_ylabel(QUALITIES[quality])
    for axes in list(grid.flat)[len(parts) :]:
        axes.set_axis_off()
    heading = f"{title}: {QUALITIES[quality].partition(',')[0]} against wall time"
    figure.suptitle(heading, fontsize=11)
    ordered = [tool for tool in tools if tool in handles]
    legend = [handles[tool] for tool in ordered]
    figure.legend(legend, ordered, loc="outside lower center", ncols=1 + columns)
    save_figure(figure, path)
    return True


def _draw_panel(
    axes: Any, found: dict[str, tuple[float, float]], markers: dict[str, str]
) -> dict[str, Any]:
    """Points of all tools, the presets of stn3d joined by a line; the legend's handles by tool."""
    presets = [point for tool, point in found.items() if is_preset(tool)]
    if len(presets) > 1:
        axes.plot(*zip(*presets, strict=True), "-", color=colour_of("stn3d"), lw=1, zorder=1)
    handles = {}
    for tool, (x, y) in found.items():
        (handles[tool],) = axes.plot(x, y, markers[tool], color=colour_of(tool), ms=7)
    log_seconds_axis(axes)
    axes.grid(alpha=0.3)
    axes.margins(0.12)
    return handles
