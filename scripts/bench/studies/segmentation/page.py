"""The page of the study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from scripts.bench.pages import command, conditions, number, table, write_page
from scripts.bench.store import Row, read
from scripts.bench.studies.segmentation.references import TUNED

ABOUT = (
    'The network has never seen a real image. "Status" rests on limits that were set on these '
    "images. The pictures of all images but the templates are not part of the repository."
)


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    lines = ["# Segmentation of real images", "", *command(results), *conditions(results)]
    lines += [f"Iterations of the training: {results.head['iterations']}. {ABOUT}", ""]
    lines += ["## Means", "", *table(means(results.done)), ""]
    lines += ["## Images", "", *table(images(results.done)), ""]
    lines += ["## Structures", "", *table(structures(results.done)), ""]
    lines += [f"![{path.stem}]({path.name})\n" for path in sorted(folder.glob("*.png"))]
    write_page(folder, lines)


def is_tuned(row: Row) -> bool:
    """Whether an image may serve to choose settings."""
    return str(row["image"]).startswith(TUNED)


def means(rows: Sequence[Row]) -> list[list[str]]:
    """Mean metrics of the groups of images; the first line is the header."""
    found = [["images", "number", "Dice of structures", "Dice of the brain mask", "seconds"]]
    for name, part in {
        "brains, tuned": [r for r in rows if "brains/" in r["image"] and is_tuned(r)],
        "brains, reported": [r for r in rows if "brains/" in r["image"] and not is_tuned(r)],
        "aseg_pair, tuned": [r for r in rows if "aseg_pair/" in r["image"]],
        "contrasts against T1": [
            r for r in rows if "contrasts/" in r["image"] and not r["image"].endswith("_t1")
        ],
        "templates": [r for r in rows if "ct_mr/" in r["image"]],
    }.items():
        if part:
            keys = ("dice", "brain_dice", "seconds")
            cells = [_mean([r[key] for r in part if key in r]) for key in keys]
            found.append([name, str(len(part)), *cells])
    return found


def images(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each image."""
    titles = [
        "Dice of structures",
        "Dice of the brain mask",
        "brain, ml",
        "uncertainty",
        "status",
        "seconds",
    ]
    found = [["image", *titles]]
    keys = ("dice", "brain_dice", "brain_ml", "uncertainty")
    for row in rows:
        cells = [number(row.get(key)) for key in keys]
        cells += [row.get("status", ""), number(row.get("seconds"))]
        found.append([row["image"], *cells])
    return found


def structures(rows: Sequence[Row]) -> list[list[str]]:
    """The mean Dice of each structure, left and right together."""
    groups = {
        "brains": [r for r in rows if "brains/" in r["image"]],
        "aseg_pair": [r for r in rows if "aseg_pair/" in r["image"]],
        "T1 with contrast": [r for r in rows if r["image"].endswith("p07_t1post")],
        "T2": [r for r in rows if r["image"].endswith("p07_t2")],
        "FLAIR": [r for r in rows if r["image"].endswith("p07_flair")],
    }
    names = dict.fromkeys(
        name.removeprefix("left ").removeprefix("right ")
        for row in rows
        for name in row.get("structures", {})
    )
    found = [["structure", *groups]]
    for name in names:
        cells = []
        for part in groups.values():
            values = [
                dice
                for row in part
                for key, dice in row["structures"].items()
                if key.removeprefix("left ").removeprefix("right ") == name
            ]
            cells.append(_mean(values))
        found.append([name, *cells])
    return found


def _mean(values: Sequence[float]) -> str:
    return f"{mean(values):.3f}" if values else ""
