"""The page of the lesion study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, log
from pathlib import Path
from statistics import mean

from scripts.bench.pages import command, failures, table, write_page
from scripts.bench.store import Row, read

ABOUT = """\
A dark sphere of 15 mm diameter in one of two brains, registered as it is ("plain") and with its
mask ("masked"), compared with the same pair without a sphere ("free"). "Volume" is the sphere's
volume after the transform that is defined in its image (transform.h5 for a sphere in the fixed
image, inverse.h5 for one in the moving image) divided by its volume before, relative to the affine
part: 1 where the sphere changes as the whole brain does. "Around" is the same for the shell from
one radius to two. "Against free" is the sphere's volume divided by that of the same place in the
free run: 1 where the sphere had no effect. A value below 1 means that the transform shrank the
lesion, because the other brain has none. Distances are between the run's transform and the free
run's, means over the fixed brain outside the sphere, near it (15 mm) and inside; errors, where the
truth is known, are distances to the true transform. Means of volumes are geometric."""

COLUMNS = ("volume", "around", "volume, free", "against free")
DISTANCES = {
    "apart_mm": "outside, mm",
    "apart_near_mm": "near, mm",
    "apart_within_mm": "inside, mm",
}
ERRORS = {"true_error_mm": "error outside, mm", "true_error_free_mm": "error, free, mm"}


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    head, done = results.head, results.done
    lines = ["# A lesion in one of two brains", "", *command(results), ABOUT, ""]
    lines += [f"Machine: {head['machine']}; threads: {head['threads']}.", ""]
    lines += [f"{head['version']}; every run is `{head['tool']}`, masks by `--SIDE-{head['by']}`."]
    lines += [
        "",
        "## Means",
        "",
        *table(means(done)),
        "",
        "## All runs",
        "",
        *table(runs(done)),
        "",
    ]
    name = "{fixed} <- {moving} ({number}), {side}, {how}"
    write_page(folder, [*lines, *failures(results.failed, name)])


def ratios(row: Row) -> tuple[float, ...]:
    """The values of `COLUMNS`."""
    mine, free = row["volume"], row["volume_free"]
    own, around, before = (
        mine["ratio"] / mine["ratio_affine"],
        mine["ratio_around"] / mine["ratio_affine"],
        free["ratio"] / free["ratio_affine"],
    )
    return own, around, before, mine["ratio"] / free["ratio"]


def means(rows: Sequence[Row]) -> list[list[str]]:
    """Means over pairs, a line for each side and kind of run; the first is the header."""
    titles = shown(rows)
    lines = [["sphere in", "run", "runs", *COLUMNS, *titles.values(), "wall time, s"]]
    for side, how, group in groups(rows):
        columns = zip(*map(ratios, group), strict=True)
        cells = [f"{geometric(column):.3f}" for column in columns]
        cells += [f"{mean(row[key] for row in group):.3f}" for key in titles]
        wall = mean(row["wall_s"] for row in group)
        lines.append([side, how, str(len(group)), *cells, f"{wall:.1f}"])
    return lines


def runs(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each run; the first is the header."""
    titles = shown(rows)
    lines = [["pair", "sphere in", "run", *COLUMNS, *titles.values()]]
    for row in rows:
        cells = [f"{x:.3f}" for x in (*ratios(row), *(row[key] for key in titles))]
        lines.append([_name(row), row["side"], row["how"], *cells])
    return lines


def shown(rows: Sequence[Row]) -> dict[str, str]:
    """Distances, and errors where the truth of all pairs is known, with their titles."""
    known = bool(rows) and all(key in row for row in rows for key in ERRORS)
    return DISTANCES | (ERRORS if known else {})


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Side, kind of run and rows."""
    for side in dict.fromkeys(row["side"] for row in rows):
        for how in dict.fromkeys(row["how"] for row in rows):
            chosen = [row for row in rows if (row["side"], row["how"]) == (side, how)]
            if chosen:
                yield side, how, chosen


def geometric(values: tuple[float, ...]) -> float:
    """The geometric mean; 0 where a volume is 0 or negative because of folding."""
    return exp(mean(log(value) for value in values)) if min(values) > 0 else 0.0


def _name(row: Row) -> str:
    return f"{row['fixed']} <- {row['moving']} ({row['number']})"
