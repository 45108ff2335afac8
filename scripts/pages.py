"""What the reports of this folder share: their argument, tables and plots."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def measured_file(doc: str | None, arguments: list[str] | None, script: str) -> Path:
    """The JSON file on the command line, without its extension.

    Args:
        doc: of the report's module; its first line is the command's description.
        arguments: of the command line; None takes the process's own.
        script: what writes such files.

    Raises:
        SystemExit: there is no such file.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("json", type=Path, help=f"what scripts/{script} wrote")
    path: Path = parser.parse_args(arguments).json
    if not path.is_file():
        raise SystemExit(f"{path} is no file; give the JSON that scripts/{script} wrote.")
    return path.with_suffix("")


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; the first row is its head."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


def new_figure(width: float, height: float) -> Any:
    """A figure of matplotlib, sizes in inches; None, and a line that says so, where it is not
    installed."""
    try:
        import matplotlib.figure
    except ImportError:
        print("No plot: matplotlib is not installed.", file=sys.stderr)
        return None
    return matplotlib.figure.Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Write an SVG whose letters are text; equal figures give equal bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "stn3d"}):
        figure.savefig(path, metadata={"Date": None})
