"""Speed of the affine transformer layer, forward and backward, against plain torch and kornia.

    python -m scripts.bench transformer_speed run [--batch 256] [--size 60] [--rounds 40]

Measured is the way from a theta for each image of a batch to the warped images, and back to the
gradients of the thetas (an input image needs none) or of the images too (feature maps). Plain torch
is affine_grid and grid_sample, kornia its warp_affine (omitted where it is not installed; `pip
install --no-deps kornia` is enough). They alternate, round after round; medians and minima are
reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.bench.machine import machine, versions
from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.pages import command, table, write_page
from scripts.bench.store import RESULTS_FILE, Results, Row, read, write
from stn3d import Affine, Grid
from stn3d.nets import warp_tensor

Contender = Callable[[Tensor, Tensor], Tensor]
WANTED = {"thetas": False, "thetas and images": True}
UNCOUNTED = 3


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    batch: int = option(256, "images per batch")
    size: int = option(60, "edges of the images, pixels")
    rounds: int = option(40, "rounds")


def run(options: Options) -> None:
    """Measure everything, then report."""
    torch.set_num_threads(options.threads)
    rows = [row for wanted in WANTED for row in measured(wanted, options)]
    head = {
        "machine": machine(),
        "versions": versions(),
        "command": command_line("transformer_speed", options),
        "threads": options.threads,
        "batch": options.batch,
        "size": options.size,
        "rounds": options.rounds,
    }
    write(options.out / RESULTS_FILE, Results("transformer_speed", head, rows))
    report(options.out)


# -- the implementations ---------------------------------------------------------------------------


def ours(image: Tensor, theta: Tensor) -> Tensor:
    """stn3d: parameters about the centre; theta's translation is in half widths."""
    n = image.shape[-1]
    linear, shift = theta[..., :2].flip(-1, -2), theta[..., 2].flip(-1) * (n / 2)
    parameters = torch.cat([linear.flatten(1), shift], dim=1)
    return warp_tensor(image, Affine(parameters, Grid.of_spacing((n, n)).centre_mm))


def plain(image: Tensor, theta: Tensor) -> Tensor:
    """Plain torch."""
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


def contenders() -> dict[str, Contender]:
    """All installed implementations, by name and version."""
    found: dict[str, Contender] = {"stn3d": ours, f"torch {torch.__version__}": plain}
    try:
        kornia = import_module("kornia.geometry.transform")
    except ImportError:
        print("kornia is omitted: it is not installed.")
        return found

    def by_kornia(image: Tensor, theta: Tensor) -> Tensor:
        n = image.shape[-1]
        shift = theta[..., 2:] * (n / 2)  # about the corner; the amount does not affect the time
        return kornia.warp_affine(image, torch.cat([theta[..., :2], shift], dim=2), (n, n))

    return {**found, f"kornia {version('kornia')}": by_kornia}


# -- measurements -----------------------------------------------------------------------------


def measured(wanted: str, options: Options) -> list[Row]:
    """One row for each contender."""
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(options.batch, 1, options.size, options.size, generator=draw)
    thetas = torch.eye(2, 3) + 0.1 * torch.randn(options.batch, 2, 3, generator=draw)
    upstream = torch.rand(images.shape, generator=draw)
    running = contenders()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    for _ in range(options.rounds + UNCOUNTED):
        for name, contender in running.items():
            image = images.clone().requires_grad_(WANTED[wanted])
            theta = thetas.clone().requires_grad_()
            start = time.perf_counter()
            out = contender(image, theta)
            middle = time.perf_counter()
            out.backward(upstream)
            seconds[name].append((middle - start, time.perf_counter() - middle))
    return [
        {"wanted": wanted, "name": name, **summary(times[UNCOUNTED:])}
        for name, times in seconds.items()
    ]


def summary(times: list[tuple[float, float]]) -> Row:
    """Milliseconds: medians of forward, backward and both, and the best of both."""
    both = [sum(pair) for pair in times]
    forward, backward = (statistics.median(part) for part in zip(*times, strict=True))
    found = {
        "forward_ms": forward,
        "backward_ms": backward,
        "median_ms": statistics.median(both),
        "best_ms": min(both),
    }
    return {name: round(1000 * value, 2) for name, value in found.items()}


# -- the page -------------------------------------------------------------------------------------


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    head = results.head
    lines = ["# Speed of the affine transformer layer", "", *command(results)]
    lines += [
        f"Machine: {head['machine']}; threads: {head['threads']}. Batches of {head['batch']} "
        f"images of {head['size']}x{head['size']} pixels; {head['rounds']} rounds, alternating.",
        "",
    ]
    for wanted in WANTED:
        lines += [f"## Gradients of {wanted}", ""]
        lines += [*table(times([row for row in results.rows if row["wanted"] == wanted])), ""]
    write_page(folder, lines)


def times(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each implementation; the first is the header."""
    keys = ("forward_ms", "backward_ms", "median_ms", "best_ms")
    head = ["", "forward, ms", "backward, ms", "both, ms", "minimum, ms"]
    lines = [[*head, "stn3d / this, medians"]]
    for row in rows:
        ratio = rows[0]["median_ms"] / row["median_ms"]
        lines.append([row["name"], *(f"{row[key]:.1f}" for key in keys), f"{ratio:.2f}"])
    return lines
