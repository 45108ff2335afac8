#!/usr/bin/env python3
"""A page on a training: its command, seed, steps, hours, machine, versions and curves.

    scripts/training_report.py RUN --name dense --command "stn3d train configs/train.yaml ..."
        [--machine "..."] [--out docs/results]

RUN is the folder that `stn3d train` wrote (its output_dir); it is only read. Writes
OUT/training-NAME.md and OUT/training-NAME.svg. A training that still runs can be reported too.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmark import machine
from pages import new_figure, save_figure, table

from stn3d.errors import InputError
from stn3d.nets.weights import TrainedNetwork, load_weights
from stn3d.train import read_history

OUT = Path(__file__).resolve().parents[1] / "docs" / "results"
BESIDE_LOSSES = ("iteration", "learning_rates", "seconds", "samples_per_s")
SHOWN_EPOCHS = 20
LOSS_NOTE = "Means over tenths of the training; all terms are such that lower is better."
Line = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Run:
    """What a training left behind.

    Args:
        steps: the history's lines of training.
        epochs: its lines of validation.
        trained: the best weights.
        size_mb: of their file.
    """

    steps: list[Line]
    epochs: list[Line]
    trained: TrainedNetwork
    size_mb: float


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the training's output_dir")
    parser.add_argument("--name", required=True, help="of the page: training-NAME.md")
    parser.add_argument("--command", help="the exact command, where the weights do not tell it")
    parser.add_argument("--machine", help="where it ran; by default this machine's words")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the page")
    args = parser.parse_args(arguments)
    run = read_run(args.run)
    args.out.mkdir(parents=True, exist_ok=True)
    page = args.out / f"training-{args.name}.md"
    plot = draw(run, page.with_suffix(".svg"))
    command = args.command or run.trained.record.get("command", "not kept")
    told = {"command": command, "machine": args.machine or machine()}
    page.write_text(markdown(run, args.name, told, plot), encoding="utf-8")


def read_run(folder: Path) -> Run:
    """A training's history and weights.

    Raises:
        SystemExit: the folder lacks one of them.
    """
    lines = read_history(folder / "history.jsonl")
    steps = [line for line in lines if "loss" in line]
    epochs = [line for line in lines if "validation" in line]
    if not steps:
        raise SystemExit(f"{folder} holds no history of a training; give its output_dir.")
    file = folder / "model.safetensors"
    try:
        trained = load_weights(file)
    except InputError as error:
        raise SystemExit(f"{error} They come with a training's first epoch.") from None
    return Run(steps, epochs, trained, file.stat().st_size / 1e6)


def markdown(run: Run, name: str, told: dict[str, str], plot: bool) -> str:
    """The page."""
    page = [f"# Training: {name}", "", *table([["what", "value"], *facts(run, told["machine"])])]
    page += ["", "The command:", "", f"    {told['command']}", ""]
    if plot:
        page += [f"![Loss and validation curves](training-{name}.svg)", ""]
    page += ["## Losses", "", LOSS_NOTE, "", *table(losses(run.steps)), ""]
    if run.epochs:
        page += ["## Validation", "", *table(validations(run)), ""]
    return "\n".join(page)


def facts(run: Run, where: str) -> list[list[str]]:
    """What the page's first table says."""
    trained, record, last = run.trained, run.trained.record, run.steps[-1]
    parameters = sum(p.numel() for p in trained.network.parameters())
    grid = " x ".join(map(str, trained.preprocessing["shape"]))
    rates = [max(line["learning_rates"]) for line in run.steps]
    versions = ", ".join(f"{key} {value}" for key, value in record["versions"].items())
    return [
        ["machine", where],
        ["network", f"{type(trained.network).__name__}, {parameters} parameters"],
        ["its options", ", ".join(f"{key} {value}" for key, value in trained.options.items())],
        ["weights", f"{run.size_mb:.2f} MB, of iteration {record['iterations']}"],
        ["working grid", f"{grid} voxels of {trained.preprocessing['spacing_mm']:g} mm"],
        ["data", str(record["data"])],
        ["seed", str(record["seed"])],
        ["iterations", f"{last['iteration']}, of {record['batch_size']} samples each"],
        ["hours", f"{last['seconds'] / 3600:.2f}, without validation"],
        ["samples a second", f"{median(line['samples_per_s'] for line in run.steps):.2f}"],
        ["learning rate", f"at most {max(rates):g}, at the end {rates[-1]:g}"],
        ["versions", versions],
    ]


def terms(steps: Sequence[Line]) -> list[str]:
    """The loss and what it is made of."""
    return [key for key in steps[0] if key not in BESIDE_LOSSES]


def losses(steps: Sequence[Line]) -> list[list[str]]:
    """Means over tenths of the training; the first line is the head."""
    names, parts = terms(steps), min(10, len(steps))
    cuts = [round(i * len(steps) / parts) for i in range(parts + 1)]
    rows = [["iterations to", *names]]
    for a, b in itertools.pairwise(cuts):
        part = steps[a:b]
        means = [f"{mean(line[name] for line in part):.4g}" for name in names]
        rows.append([str(part[-1]["iteration"]), *means])
    return rows


def validations(run: Run) -> list[list[str]]:
    """The metrics after epochs, the kept one's in bold; of many epochs every n-th."""
    names, best = list(run.epochs[0]["validation"]), run.trained.record["iterations"]
    every = math.ceil(len(run.epochs) / SHOWN_EPOCHS)
    rows = [["iteration", *(name.removeprefix("val_") for name in names)]]
    for number, line in enumerate(run.epochs, 1):
        kept = line["iteration"] == best
        if kept or number % every == 0 or number in (1, len(run.epochs)):
            cells = [str(line["iteration"])]
            cells += [f"{line['validation'].get(name, math.nan):.4g}" for name in names]
            rows.append([f"**{cell}**" for cell in cells] if kept else cells)
    return rows


# -- the plot -------------------------------------------------------------------------------------


def draw(run: Run, path: Path) -> bool:
    """Curves of the losses, and after them those of the validation; False without matplotlib."""
    curves = {f"{name}, training": curve for name, curve in loss_curves(run.steps).items()}
    for name in run.epochs[0]["validation"] if run.epochs else ():
        x = [line["iteration"] for line in run.epochs]
        y = [line["validation"].get(name, math.nan) for line in run.epochs]
        curves[f"{name.removeprefix('val_')}, validation"] = x, y
    rows = math.ceil(len(curves) / 2)
    figure = new_figure(7, 1.9 * rows)
    if figure is None:
        return False
    places = figure.subplots(rows, 2, squeeze=False, sharex=True).flat
    for axes, (name, (x, y)) in zip(places, curves.items(), strict=False):
        axes.plot(x, y, "o-" if "validation" in name else "-", ms=3, lw=1)
        if "validation" in name:
            axes.axvline(run.trained.record["iterations"], color="0.7", zorder=0)  # what was kept
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.locator_params(nbins=4)
        axes.grid(alpha=0.3)
    for axes in list(places):
        axes.set_axis_off()  # where there is no curve
    figure.supxlabel("iteration", fontsize=9)
    save_figure(figure, path)
    return True


def loss_curves(steps: Sequence[Line]) -> dict[str, tuple[list[int], list[float]]]:
    """Iterations and running means, by name."""
    x, window = [line["iteration"] for line in steps], max(1, len(steps) // 10)
    return {n: (x, running_means([line[n] for line in steps], window)) for n in terms(steps)}


def running_means(values: Sequence[float], window: int) -> list[float]:
    """The means of each value and those before it, ``window`` at most."""
    return [mean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]


if __name__ == "__main__":
    main()
