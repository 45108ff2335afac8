"""The page of what scripts/contrasts_rigid.py measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from pages import table
from rigid_figures import percentile
from rows import Row, write_page

KEYS = ("fixed", "moving", "seed", "tool")  # of a row
LOST_MM = 3.0
COMMAND = (
    "scripts/contrasts_rigid.py --work DIR --out docs/results/contrasts_rigid "
    "--peer-python peers/bin/python"
)
ABOUT = """\
One person's contrasts; the moving one is turned by up to 30 degrees about each axis and shifted
by up to 20 mm along each (../shared/bench/make_truth.py --amplitude-mm 0 --scale 1 --rot-deg 30
--shift-mm 20), with noise and a bias field. The error of a run is the mean distance in mm from
the true transform over the fixed foreground; median, 95th percentile and maximum are over seeds.
Seconds are wall seconds of a whole process, files to files."""
REPEATABILITY = """\
The truth is no better than the published co-registration of the contrasts, which unlike
similarities agree to be off by 0.2 to 0.33 mm, constant for a pair. So here each run's error is
taken after the mean rigid motion truth^-1 found of the *other* seeds of this tool and pair is
taken out of it (a mean of six numbers: a rotation vector, and the shift of the foreground's
middle). What is left is how well the tool repeats itself from seed to seed; it is no error
against a truth, and a tool that is always wrong by the same motion has none. "common" is the
motion that all seeds share, as the mean shift in mm of the foreground's middle and the rotation
in degrees. Runs that were lost (3 mm and more) take no part."""


def write_report(head: Row, rows: list[Row], out: Path) -> None:
    """OUT.json and OUT.md."""
    write_page(out, head, rows, markdown(head, rows))


def markdown(head: Row, rows: list[Row]) -> str:
    """Errors, repeatability, and what failed."""
    lines = ["# Rigid registration of one person's contrasts", "", f"    {COMMAND}", ""]
    lines += [ABOUT, "", f"Machine: {head['machine']}; {head['threads']} threads."]
    lines += ["Versions: " + ", ".join(sorted({row["version"] for row in rows})) + ".", ""]
    lines += ["## Error against the truth", "", *table(errors(rows)), ""]
    lines += ["## Repeatability", "", REPEATABILITY, "", *table(repeatability(rows)), ""]
    failed = [row for row in rows if "failed" in row]
    lines += [
        f"- {_name(row)}, seed {row['seed']}, {row['tool']}: {row['failed']}" for row in failed
    ]
    return "\n".join(lines).rstrip() + "\n"


def errors(rows: list[Row]) -> list[list[str]]:
    """A line for each pair and tool, then for all pairs; the first is the head."""
    head = ["fixed <- moving", "tool", "runs", "median mm", "p95 mm", "max mm", "below 1 mm"]
    lines = [[*head, "median s", "max s"]]
    for name, tool, group in groups(rows):
        done = [row for row in group if "failed" not in row]
        below = sum(row["error_mm"]["mean"] < 1 for row in done)
        share = f"{100 * below / len(group):.0f} % ({below} of {len(group)})"
        of = _three(done, lambda row: row["error_mm"]["mean"])
        seconds = [row["wall_s"] for row in done]
        times = [f"{f(seconds):.1f}" for f in (median, max)] if done else ["", ""]
        lines.append([name, tool, str(len(group)), *of, share, *times])
    return lines


def repeatability(rows: list[Row]) -> list[list[str]]:
    """The same of `repeatability_mm`."""
    head = ["fixed <- moving", "tool", "runs", "median mm", "p95 mm", "max mm"]
    lines = [[*head, "common shift mm", "common turn deg"]]
    for name, tool, group in groups(rows):
        kept = [row for row in group if row.get("repeatability_mm") is not None]
        common = np.mean([row["residual"] for row in kept], axis=0) if kept else None
        cells = ["", ""]
        if common is not None and name != "all":
            shift, turn = (float(np.linalg.norm(part)) for part in (common[3:], common[:3]))
            cells = [f"{shift:.3f}", f"{np.rad2deg(turn):.3f}"]
        of = _three(kept, lambda row: row["repeatability_mm"])
        lines.append([name, tool, str(len(kept)), *of, *cells])
    return lines


def groups(rows: list[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Pair, tool and rows; then all pairs by tool."""
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    for name in [*dict.fromkeys(map(_name, rows)), "all"]:
        for tool in tools:
            chosen = [r for r in rows if r["tool"] == tool and name in ("all", _name(r))]
            if chosen:
                yield name, tool, chosen


def _three(rows: Sequence[Row], value: Callable[[Row], float]) -> list[str]:
    values = [value(row) for row in rows]
    if not values:
        return ["", "", ""]
    return [f"{x:.3f}" for x in (median(values), percentile(values, 0.95), max(values))]


def _name(row: Row) -> str:
    return f"{row['fixed']} <- {row['moving']}"
