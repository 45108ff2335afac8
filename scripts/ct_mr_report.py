"""The page of what scripts/ct_mr.py measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from pages import table
from rigid_figures import percentile
from rows import Row, write_page

KEYS = ("fixed", "moving", "start", "tool")  # of a row
LOST_MM = 10.0
COMMAND = "scripts/ct_mr.py --work DIR --out docs/results/ct_mr"
ABOUT = """\
Templates of CT and MR heads, all in MNI space; the moving one's header is turned by up to 45
degrees about each axis and shifted by up to 40 mm along each. What a run found is judged with its
start taken out, over the brain. "Spread" is a run's largest distance, anywhere in the brain, from
the consensus of all runs of the pair (the median of each coordinate): a tool that always ends in
the same place has none, wherever that is. "From identity" is the mean distance from the identity,
which is the answer but for the templates' own differences of 1 to 3 mm. "Lost" are runs more than
10 mm from the identity, "failed" those that ended without a transform. Seconds are wall seconds of
a whole process, files to files."""


def write_report(head: Row, rows: list[Row], out: Path) -> None:
    """OUT.json and OUT.md."""
    write_page(out, head, rows, markdown(head, rows))


def markdown(head: Row, rows: list[Row]) -> str:
    """A line for each pair and tool, and what failed."""
    lines = ["# Rigid registration of CT and MR heads from random starts", "", f"    {COMMAND}", ""]
    lines += [ABOUT, "", f"Machine: {head['machine']}; {head['threads']} threads."]
    lines += ["Versions: " + ", ".join(sorted({row["version"] for row in rows})) + ".", ""]
    lines += [*table(figures(rows)), ""]
    for row in rows:
        if "failed" in row:
            what = f"{row['fixed']} <- {row['moving']}, start {row['start']}, {row['tool']}"
            lines.append(f"- {what}: {row['failed']}")
    return "\n".join(lines).rstrip() + "\n"


def figures(rows: list[Row]) -> list[list[str]]:
    """The first line is the head."""
    head = ["fixed <- moving", "tool", "runs", "failed", "lost"]
    head += [f"spread, {what} mm" for what in ("median", "p95", "max")]
    lines = [[*head, "from identity, median mm", "max mm", "median s", "max s"]]
    for name, tool, group in groups(rows):
        done = [row for row in group if "failed" not in row]
        lost = sum(row["identity_mm"] > LOST_MM for row in done)
        cells = [name, tool, str(len(group)), str(len(group) - len(done)), str(lost)]
        if done:
            spread, away, seconds = (
                [row[key] for row in done] for key in ("spread_mm", "identity_mm", "wall_s")
            )
            cells += [f"{x:.2f}" for x in (median(spread), percentile(spread, 0.95), max(spread))]
            cells += [f"{median(away):.2f}", f"{max(away):.2f}"]
            cells += [f"{median(seconds):.1f}", f"{max(seconds):.1f}"]
        lines.append(cells + [""] * (len(lines[0]) - len(cells)))
    return lines


def groups(rows: list[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Pair, tool and rows."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((f"{row['fixed']} <- {row['moving']}", row["tool"]), []).append(row)
    for (name, tool), group in found.items():
        yield name, tool, group
