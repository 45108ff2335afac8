"""Page about a training run of a network: command, seed, steps, hours, machine, versions, curves.

    python -m scripts.bench training run --run RUN --name dense [--command "stn3d train ..."]
        [--trained-on "..."]

RUN is the folder that ``stn3d train`` wrote (its output_dir); it is only read. The page is
docs/results/training/NAME unless --out is given. A training that is not finished can be reported
too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, option, required
from scripts.bench.pages import table, write_page
from scripts.bench.paths import RESULTS
from scripts.bench.plots import COLOURS, PLOT_FILE, new_figure, save_figure
from scripts.bench.store import RESULTS_FILE, Results, Row, read, write
from stn3d import InputError
from stn3d.nets.weights import TrainedNetwork, load_weights
from stn3d.train import read_history

OTHER_KEYS = ("iteration", "learning_rates", "seconds", "samples_per_s")
SHOWN_EPOCHS = 20
LOSS_NOTE = "Means over tenths of the training; all terms are such that lower is better."


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    run: Path = required("the training's output_dir")
    name: str = required("name of the training")
    command: str = option("", "the exact command, where the weights do not store it")
    trained_on: str = option("", "machine of the training; this one by default")


def run(options: Options) -> None:
    """Store the training's history and facts, then report."""
    if options.out == RESULTS / "training":
        options = replace(options, out=options.out / options.name)
    steps, epochs, trained = read_run(options.run)
    size_mb = (options.run / "model.safetensors").stat().st_size / 1e6
    record = trained.record
    head = {
        "machine": options.trained_on or machine(),
        "versions": record["versions"],
        "command": options.command or record.get("command", "not stored"),
        "name": options.name,
        "facts": facts(trained, steps, size_mb),
        "iterations": record["iterations"],
    }
    write(options.out / RESULTS_FILE, Results("training", head, [*steps, *epochs]))
    report(options.out)


def read_run(folder: Path) -> tuple[list[Row], list[Row], TrainedNetwork]:
    """A training's lines of steps, lines of validation, and best weights.

    Raises:
        SystemExit: the folder lacks one of them.
    """
    lines = read_history(folder / "history.jsonl")
    steps = [line for line in lines if "loss" in line]
    epochs = [line for line in lines if "validation" in line]
    if not steps:
        raise SystemExit(f"{folder} holds no history of a training; give its output_dir.")
    try:
        trained = load_weights(folder / "model.safetensors")
    except InputError as error:
        raise SystemExit(f"{error} They are written after the first epoch.") from None
    return steps, epochs, trained


def facts(trained: TrainedNetwork, steps: Sequence[Row], size_mb: float) -> dict[str, str]:
    """The page's first table, without machine and versions."""
    record, last = trained.record, steps[-1]
    parameters = sum(p.numel() for p in trained.network.parameters())
    grid = " x ".join(map(str, trained.preprocessing["shape"]))
    rates = [max(line["learning_rates"]) for line in steps]
    return {
        "network": f"{type(trained.network).__name__}, {parameters} parameters",
        "options of the network": ", ".join(f"{k} {value}" for k, value in trained.options.items()),
        "weights": f"{size_mb:.2f} MB, of iteration {record['iterations']}",
        "working grid": f"{grid} voxels of {trained.preprocessing['spacing_mm']:g} mm",
        "data": str(record["data"]),
        "seed": str(record["seed"]),
        "iterations": f"{last['iteration']}, of {record['batch_size']} samples each",
        "hours": f"{last['seconds'] / 3600:.2f}, without validation",
        "samples per second": f"{median(line['samples_per_s'] for line in steps):.2f}",
        "learning rate": f"maximum {max(rates):g}, at the end {rates[-1]:g}",
    }


# -- the page -------------------------------------------------------------------------------------


def report(folder: Path) -> None:
    """Write README.md and plot.svg."""
    results = read(folder)
    steps = [row for row in results.rows if "loss" in row]
    epochs = [row for row in results.rows if "validation" in row]
    head = results.head
    versions = ", ".join(f"{key} {value}" for key, value in head["versions"].items())
    values = {"machine": head["machine"], **head["facts"], "versions": versions}
    rows = [["property", "value"], *([key, text] for key, text in values.items())]
    lines = [f"# Training: {head['name']}", "", *table(rows), ""]
    lines += ["The command:", "", f"    {head['command']}", ""]
    if draw(steps, epochs, head, folder / PLOT_FILE):
        lines += [f"![Loss and validation curves]({PLOT_FILE})", ""]
    lines += ["## Losses", "", LOSS_NOTE, "", *table(losses(steps)), ""]
    if epochs:
        lines += ["## Validation", "", *table(validations(epochs, head["iterations"])), ""]
    write_page(folder, lines)


def terms(steps: Sequence[Row]) -> list[str]:
    """The loss and its terms."""
    return [key for key in steps[0] if key not in OTHER_KEYS]


def losses(steps: Sequence[Row]) -> list[list[str]]:
    """Means over tenths of the training; the first line is the header."""
    names, parts = terms(steps), min(10, len(steps))
    cuts = [round(i * len(steps) / parts) for i in range(parts + 1)]
    rows = [["up to iteration", *names]]
    for a, b in itertools.pairwise(cuts):
        part = steps[a:b]
        means = [f"{mean(line[name] for line in part):.4g}" for name in names]
        rows.append([str(part[-1]["iteration"]), *means])
    return rows


def validations(epochs: Sequence[Row], best: int) -> list[list[str]]:
    """The metrics after epochs, those of the kept weights in bold; of many epochs every n-th."""
    names = list(epochs[0]["validation"])
    every = math.ceil(len(epochs) / SHOWN_EPOCHS)
    rows = [["iteration", *(name.removeprefix("val_") for name in names)]]
    for number, line in enumerate(epochs, 1):
        kept = line["iteration"] == best
        if kept or number % every == 0 or number in (1, len(epochs)):
            cells = [str(line["iteration"])]
            cells += [f"{_metric(line, name):.4g}" for name in names]
            rows.append([f"**{cell}**" for cell in cells] if kept else cells)
    return rows


def _metric(line: Row, name: str) -> float:
    value = line["validation"].get(name)
    return math.nan if value is None else float(value)


# -- the plot -------------------------------------------------------------------------------------


def draw(steps: Sequence[Row], epochs: Sequence[Row], head: dict[str, Any], path: Path) -> bool:
    """Curves of the losses, then those of the validation; False without matplotlib."""
    curves = {f"{name}, training": curve for name, curve in loss_curves(steps).items()}
    for name in epochs[0]["validation"] if epochs else ():
        x = [line["iteration"] for line in epochs]
        y = [_metric(line, name) for line in epochs]
        curves[f"{name.removeprefix('val_')}, validation"] = x, y
    rows = math.ceil(len(curves) / 2)
    figure = new_figure(7, 0.4 + 1.9 * rows)
    if figure is None:
        return False
    places = figure.subplots(rows, 2, squeeze=False, sharex=True).flat
    for axes, (name, (x, y)) in zip(places, curves.items(), strict=False):
        validated = "validation" in name
        axes.plot(x, y, "o-" if validated else "-", ms=3, lw=1, color=COLOURS["stn3d network"])
        if validated:
            axes.axvline(head["iterations"], color="0.7", zorder=0)  # the weights that are kept
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.locator_params(nbins=4)
        axes.grid(alpha=0.3)
    for axes in list(places):
        axes.set_axis_off()  # where there is no curve
    figure.suptitle(f"Training of {head['name']}; grey line: iteration of the kept weights")
    figure.supxlabel("iteration", fontsize=9)
    save_figure(figure, path)
    return True


def loss_curves(steps: Sequence[Row]) -> dict[str, tuple[list[int], list[float]]]:
    """Iterations and running means, by name."""
    x, window = [line["iteration"] for line in steps], max(1, len(steps) // 10)
    return {n: (x, running_means([line[n] for line in steps], window)) for n in terms(steps)}


def running_means(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and those before it, ``window`` values at most."""
    return [mean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]
