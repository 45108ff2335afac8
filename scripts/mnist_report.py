"""The page of scripts/mnist.py: tables of its results, pictures of what transformers look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mnist_cases import BESIDE, ROWS, Row
from pages import new_figure, table
from torch import Tensor, nn

from stn3d.data import evaluation_batches
from stn3d.io import whole
from stn3d.nets import ComposedTransformers, RecurrentTransformer, SpatialTransformer
from stn3d.synth.digits import DISTORTIONS, Digits, read_digits
from stn3d.synth.generator import SeededGenerator
from stn3d.transforms import Transform

TITLES = {
    "R": "R: turned by up to 90 degrees",
    "RTS": "RTS: turned by up to 45 degrees, scaled by 0.7 to 1.2, shifted; 42x42",
    "P": "P: projective",
    "E": "E: elastic",
    "TC": "TC: translated and cluttered, 60x60",
    "addition": "Addition of two digits on two channels, each under RTS of its own",
    "sequence": "Sequences of three digits in clutter, 100x100 (errors of single digits)",
    "two images": "Two images under one RTS: the same digit or not",
    "cascade": "Hierarchical cascade, on RTS after E",
    "depth": "Transformers in depth, on P",
    "features": "What is turned: the image or feature maps, on R",
}
PICTURED = (
    "RTS: ST-CNN affine",
    "P: ST-CNN projective",
    "E: ST-CNN tps",
    "TC: ST-CNN affine",
    "sequence: recurrent ST-CNN affine",
)
SHOWN = 10
Result = dict[str, Any]


def report(out: Path, work: Path | None, data: Path) -> None:
    """Write OUT.json, OUT.md and OUT-*.png.

    Args:
        out: the results' files without extension; OUT.json keeps what is there.
        work: folder of runs whose results are taken in, and whose weights draw pictures.
        data: folder of MNIST.
    """
    path = out.with_suffix(".json")
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results: dict[str, Result] = known.get("rows", {})
    if work is not None:
        for file in sorted(work.glob("*/result.json")):
            found = json.loads(file.read_text(encoding="utf-8"))
            results[found["row"]] = found
    results = {name: results[name] for name in ROWS if name in results}
    told = {"rows": results}
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if work is not None:
        draw(out, work, data)
    pictures = [path for path in pictures_of(out).values() if path.exists()]
    with whole(out.with_suffix(".md")) as part:
        part.write_text("\n".join(page(told, pictures)) + "\n", encoding="utf-8")


def page(told: dict[str, Any], pictures: Sequence[Path]) -> list[str]:
    """The lines of the page."""
    lines = [
        "Rows were trained side by side, CPU rows with one thread each: the seconds tell how long "
        "they took, not how fast a machine is.",
        "",
        "Test errors in percent on MNIST's 10,000 test digits, each under one distortion; what was "
        "held out are the last 5,000 of the training part. Weights are those at the end.",
        "",
    ]
    for name in dict.fromkeys(row.table for row in ROWS.values()):
        wanted = [*BESIDE.get(name, ()), *(key for key in ROWS if ROWS[key].table == name)]
        rows = {key: told["rows"][key] for key in wanted if key in told["rows"]}
        if rows:
            lines += [f"## {TITLES[name]}", "", *table(table_rows(rows)), ""]
    for path in pictures:
        lines += [f"![{path.stem}]({path.name})", ""]
    return lines[:-1]


def table_rows(results: dict[str, Result]) -> list[list[str]]:
    """A head and a line for each result."""
    head = ["network", "parameters", "of localisations", "steps", "on", "seconds", "held out, %"]
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
                f"{found['seconds']:,}",
                f"{found['held_out_pct']:.2f}",
                f"**{found['test_pct']:.2f}**",
                paper,
            ]
        )
    return lines


# -- pictures --------------------------------------------------------------------------------------


def pictures_of(out: Path) -> dict[str, Path]:
    """The files of the pictures: of the tasks, and of each row of `PICTURED`."""
    names = {name: name.replace(": ", "-").replace(" ", "-") for name in ("tasks", *PICTURED)}
    return {name: out.with_name(f"{out.name}-{slug}.png") for name, slug in names.items()}


def draw(out: Path, work: Path, data: Path) -> None:
    """Draw the tasks, and those rows of `PICTURED` that were trained."""
    from mnist import RESULT, TEST_SEED, folder_of, restored

    digits, paths = read_digits(data, "test"), pictures_of(out)
    tasks_picture(paths["tasks"], digits)
    for name in PICTURED:
        folder, row = folder_of(work, name), ROWS[name]
        if (folder / RESULT).exists():
            batch = next(evaluation_batches(digits, row.task, 250, TEST_SEED))["image"][:SHOWN]
            looks_picture(paths[name], row, restored(row, folder), batch)


def tasks_picture(path: Path, digits: Digits) -> None:
    """Each task's first digits."""
    figure = new_figure(SHOWN, 0.95 * len(DISTORTIONS))
    if figure is None:
        return
    for line, (name, distort) in enumerate(DISTORTIONS.items()):
        images, _ = distort(digits, torch.arange(SHOWN), SeededGenerator(0))
        for column, image in enumerate(images):
            axes = figure.add_subplot(len(DISTORTIONS), SHOWN, line * SHOWN + column + 1)
            axes.imshow(torch.cat(list(image), dim=1).numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
            if column == 0:
                axes.set_title(name, fontsize=8, loc="left")
    figure.savefig(path, dpi=60, metadata={"Software": None})


@torch.no_grad()
def looks_picture(path: Path, row: Row, network: nn.Module, images: Tensor) -> None:
    """What a row's transformer looks at: the image with the frame, and what is seen."""
    front = next(m for m in network.modules() if isinstance(m, LOOKS))
    found = front.localisation(images) if isinstance(front, RecurrentTransformer) else None
    transforms: list[Transform] = found or [front.transform(images)]
    seen = front(images)
    seen = list(seen.unbind(1)) if found else [seen]
    figure = new_figure(SHOWN, 1.0 * (1 + len(seen)))
    if figure is None:
        return
    for column, image in enumerate(images):
        axes = figure.add_subplot(1 + len(seen), SHOWN, column + 1)
        axes.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
        n, m = image.shape[1:]
        for transform, colour in zip(transforms, COLOURS[: len(transforms)], strict=True):
            for line in frame(n, m):
                at = transform(line.expand(len(images), *line.shape))[column]
                axes.plot(at[:, 1].numpy(), at[:, 0].numpy(), color=colour, linewidth=1)
        axes.set_xlim(-0.5, m - 0.5)
        axes.set_ylim(n - 0.5, -0.5)
        axes.set_axis_off()
        for number, views in enumerate(seen):
            axes = figure.add_subplot(1 + len(seen), SHOWN, (1 + number) * SHOWN + column + 1)
            axes.imshow(views[column, 0].numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
    figure.suptitle(f"{row.table}: {row.name}", fontsize=9)
    figure.savefig(path, dpi=60, metadata={"Software": None})


COLOURS = ("tab:orange", "tab:cyan", "tab:pink")
LOOKS = (RecurrentTransformer, ComposedTransformers, SpatialTransformer)


def frame(n: int, m: int, cells: int = 1, points: int = 20) -> list[Tensor]:
    """Lines of an output's frame, ``(points, 2)`` each, in its pixels."""
    rows, columns = torch.linspace(-0.5, n - 0.5, points), torch.linspace(-0.5, m - 0.5, points)
    lines = []
    for k in range(cells + 1):
        row, column = -0.5 + n * k / cells, -0.5 + m * k / cells
        lines.append(torch.stack([torch.full_like(columns, row), columns], dim=1))
        lines.append(torch.stack([rows, torch.full_like(rows, column)], dim=1))
    return lines
