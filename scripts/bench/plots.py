"""What all plots share: one colour for each tool, and bytes that depend on the data alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PLOT_FILE = "plot.svg"

# The first prefix that fits a tool's name gives its colour.
COLOURS = {
    "stn3d network": "tab:purple",
    "stn3d both": "tab:cyan",
    "stn3d + labels": "tab:olive",
    "stn3d": "tab:blue",
    "greedy": "tab:orange",
    "ants": "tab:green",
    "elastix": "tab:red",
    "demons": "tab:brown",
    "before": "tab:gray",
}
MARKERS = "os^DvPX*<>"


def colour_of(tool: str) -> str:
    """The colour of a tool, the same in every plot; black for an unknown one."""
    return next((c for prefix, c in COLOURS.items() if tool.startswith(prefix)), "black")


def markers_of(tools: Iterable[str]) -> dict[str, str]:
    """A marker for each tool; tools of one colour get different ones."""
    seen: dict[str, int] = {}
    found = {}
    for tool in tools:
        place = seen.setdefault(colour_of(tool), 0)
        found[tool] = MARKERS[place % len(MARKERS)]
        seen[colour_of(tool)] = place + 1
    return found


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure, sizes in inches; None, and a printed line, if that is not installed."""
    try:
        import matplotlib.figure
    except ImportError:
        print("No plot: matplotlib is not installed.", file=sys.stderr)
        return None
    return matplotlib.figure.Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Write an SVG with its text as text; equal plots give equal bytes."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "stn3d"}):
        figure.savefig(path, metadata={"Date": None})


def log_seconds_axis(axes: Any) -> None:
    """A logarithmic x axis of wall seconds with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set(xscale="log", xlabel="wall time, s")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
