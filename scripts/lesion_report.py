"""The page of what scripts/lesion.py measured."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, log
from pathlib import Path
from statistics import mean

from pages import table
from rows import Row, write_page

KEYS = ("fixed", "moving", "side", "number", "how")  # of a row
ABOUT = """\
A dark sphere of 15 mm diameter in one of two brains, registered as it is ("plain") and with its
mask ("masked"), beside the same pair without a sphere ("free"). "Volume" is the sphere's volume
after the transform that starts in its image (transform.h5 for a sphere in the fixed image,
inverse.h5 for one in the moving image) over its volume before, divided by what the affine part
alone does: 1 where the sphere fares as the whole brain does. "Around" is the same of the shell from
one radius to two. "Against free" is the sphere's volume over that of the same place in the free
run: 1 where the sphere changed nothing. A share below 1 tells that the transform shrank the lesion
away, since the other brain has none. Distances are between the run's transform and the free run's,
means over the fixed brain outside the sphere, near it (15 mm), and within; errors, where there is a
truth, are from it. Means of volumes are geometric."""


def write_report(head: Row, rows: list[Row], out: Path) -> None:
    """OUT.json and OUT.md."""
    write_page(out, head, rows, markdown(head, rows))


def markdown(head: Row, rows: list[Row]) -> str:
    """Means by side and way, every run, and what failed."""
    done = [row for row in rows if "failed" not in row]
    lines = ["# A lesion in one of two brains", "", f"    {head['command']}", "", ABOUT, ""]
    lines += [f"Machine: {head['machine']}; {head['threads']} threads."]
    lines += [f"{head['version']}; every run is `{head['tool']}`, masks by `--SIDE-{head['by']}`."]
    lines += ["", "## Means", "", *table(means(done)), "", "## Every run", "", *table(runs(done))]
    lines += [""]
    failed = [row for row in rows if "failed" in row]
    lines += [f"- {_name(row)}, {row['side']}, {row['how']}: {row['failed']}" for row in failed]
    return "\n".join(lines).rstrip() + "\n"


FIGURES = ("volume", "around", "volume, free", "against free")
DISTANCES = {"apart_mm": "outside mm", "apart_near_mm": "near mm", "apart_within_mm": "within mm"}
ERRORS = {"error_mm": "error outside mm", "error_free_mm": "error, free mm"}  # where truth is known


def ratios(row: Row) -> tuple[float, ...]:
    """The figures of `FIGURES`."""
    mine, free = row["volume"], row["volume_free"]
    own, around, before = (
        mine["ratio"] / mine["ratio_affine"],
        mine["ratio_around"] / mine["ratio_affine"],
        free["ratio"] / free["ratio_affine"],
    )
    return own, around, before, mine["ratio"] / free["ratio"]


def means(rows: list[Row]) -> list[list[str]]:
    """A line for each side and way; the first is the head."""
    told = told_of(rows)
    lines = [["sphere in", "run", "runs", *FIGURES, *told.values(), "wall s"]]
    for side, how, group in groups(rows):
        columns = zip(*map(ratios, group), strict=True)
        cells = [f"{geometric(column):.3f}" for column in columns]
        cells += [f"{mean(row[key] for row in group):.3f}" for key in told]
        wall = mean(row["wall_s"] for row in group)
        lines.append([side, how, str(len(group)), *cells, f"{wall:.1f}"])
    return lines


def runs(rows: list[Row]) -> list[list[str]]:
    told = told_of(rows)
    lines = [["pair", "sphere in", "run", *FIGURES, *told.values()]]
    for row in rows:
        cells = [f"{x:.3f}" for x in (*ratios(row), *(row[key] for key in told))]
        lines.append([_name(row), row["side"], row["how"], *cells])
    return lines


def told_of(rows: list[Row]) -> dict[str, str]:
    """Distances, and errors where the truth of all pairs is known, with their titles."""
    known = bool(rows) and all(key in row for row in rows for key in ERRORS)
    return DISTANCES | (ERRORS if known else {})


def groups(rows: list[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Side, way and rows."""
    for side in dict.fromkeys(row["side"] for row in rows):
        for how in dict.fromkeys(row["how"] for row in rows):
            chosen = [row for row in rows if (row["side"], row["how"]) == (side, how)]
            if chosen:
                yield side, how, chosen


def geometric(values: tuple[float, ...]) -> float:
    """The geometric mean; 0 where a volume was folded to nothing or less."""
    return exp(mean(log(value) for value in values)) if min(values) > 0 else 0.0


def _name(row: Row) -> str:
    return f"{row['fixed']} <- {row['moving']} ({row['number']})"
