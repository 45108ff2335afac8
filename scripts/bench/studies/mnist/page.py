"""The page of the MNIST study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from scripts.bench.pages import command, table, write_page
from scripts.bench.store import Row, read
from scripts.bench.studies.mnist.pictures import pictures_of
from scripts.bench.studies.mnist.rows import BESIDE, ROWS

TITLES = {
    "R": "R: rotated by up to 90 degrees",
    "RTS": "RTS: rotated by up to 45 degrees, scaled by 0.7 to 1.2, shifted; 42x42",
    "P": "P: projective",
    "E": "E: elastic",
    "TC": "TC: translated, with clutter, 60x60",
    "addition": "Addition of two digits on two channels, each with its own RTS",
    "sequence": "Sequences of three digits in clutter, 100x100 (errors of single digits)",
    "two images": "Two images with one RTS: the same digit or not",
    "cascade": "Hierarchical cascade, on RTS after E",
    "depth": "Transformers in depth, on P",
    "features": "Transforming the image or feature maps, on R",
}
ABOUT = """\
Rows were trained at the same time, CPU rows with one thread each: the times are those of these
trainings and do not measure a machine.

Test errors in percent on MNIST's 10,000 test digits, each with one distortion. The held-out digits
are the last 5,000 of the training set. The weights are those of the last step."""


def report(folder: Path) -> None:
    """Write README.md; pictures are drawn by ``run``, from the weights."""
    results = read(folder)
    found = {row["row"]: row for row in results.rows}
    lines = ["# Spatial transformer networks on MNIST", "", *command(results), ABOUT, ""]
    for name in dict.fromkeys(row.table for row in ROWS.values()):
        wanted = [*BESIDE.get(name, ()), *(key for key in ROWS if ROWS[key].table == name)]
        rows = {key: found[key] for key in wanted if key in found}
        if rows:
            lines += [f"## {TITLES[name]}", "", *table(table_rows(rows)), ""]
    for path in pictures_of(folder).values():
        lines += [f"![{path.stem}]({path.name})", ""] if path.exists() else []
    write_page(folder, lines)


def table_rows(results: Mapping[str, Row]) -> list[list[str]]:
    """A line for each row; the first is the header."""
    head = [
        "network",
        "parameters",
        "of localisations",
        "steps",
        "device",
        "time, s",
        "held out, %",
    ]
    lines = [[*head, "**test, %**", "paper, %"]]
    for name, found in results.items():
        row = ROWS[name]
        paper = "" if row.paper_pct is None else f"{row.paper_pct:g}"
        lines.append(
            [
                row.name,
                f"{found['parameters']:,}",
                f"{found['localisation']:,}" if found["localisation"] else "",
                f"{found['steps']:,} x {found['batch_size']}",
                found["device"],
                f"{found['wall_s']:,}",
                f"{found['held_out_error_pct']:.2f}",
                f"**{found['test_error_pct']:.2f}**",
                paper,
            ]
        )
    return lines
