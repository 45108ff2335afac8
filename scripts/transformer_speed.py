#!/usr/bin/env python3
"""The affine transformer, forward and backward, beside plain torch and kornia in the same run.

    scripts/transformer_speed.py --out docs/results/transformer_speed [--batch 256] [--size 60]
        [--threads 2] [--rounds 40]

From a theta for each image of a batch to the moved images, and back to the thetas' gradients (an
input image needs none) or to the images' too (feature maps). Plain torch is affine_grid and
grid_sample, kornia its warp_affine (left out where it is not installed; `pip install --no-deps
kornia` is enough). All take turns, round after round; medians and bests are written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from benchmark import machine
from pages import table
from torch import Tensor

from stn3d.grid import Grid
from stn3d.io import whole
from stn3d.nets import warp_tensor
from stn3d.transforms import Affine

Contender = Callable[[Tensor, Tensor], Tensor]
WANTED = {"thetas": False, "thetas and images": True}
NOT_COUNTED = 3


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="result files, without extension")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=60, help="of the images' edges, in pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    found = {
        "machine": machine(),
        "threads": args.threads,
        "batch": args.batch,
        "size": args.size,
        "rounds": args.rounds,
        "rows": [row for wanted in WANTED for row in measured(wanted, args)],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with whole(args.out.with_suffix(".json")) as part:
        part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    with whole(args.out.with_suffix(".md")) as part:
        part.write_text("\n".join(page(found)) + "\n", encoding="utf-8")


# -- who does it -----------------------------------------------------------------------------------


def ours(image: Tensor, theta: Tensor) -> Tensor:
    """stn3d: parameters about the centre; theta's shift is in half widths."""
    n = image.shape[-1]
    linear, shift = theta[..., :2].flip(-1, -2), theta[..., 2].flip(-1) * (n / 2)
    parameters = torch.cat([linear.flatten(1), shift], dim=1)
    return warp_tensor(image, Affine(parameters, Grid.of_spacing((n, n)).centre_mm))


def plain(image: Tensor, theta: Tensor) -> Tensor:
    """torch."""
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


def contenders() -> dict[str, Contender]:
    """All that are installed, by name and version."""
    found: dict[str, Contender] = {"stn3d": ours, f"torch {torch.__version__}": plain}
    try:
        kornia = import_module("kornia.geometry.transform")
    except ImportError:
        print("kornia is not installed and is left out")
        return found

    def by_kornia(image: Tensor, theta: Tensor) -> Tensor:
        n = image.shape[-1]
        shift = theta[..., 2:] * (n / 2)  # about the corner; how far is of no matter to the time
        return kornia.warp_affine(image, torch.cat([theta[..., :2], shift], dim=2), (n, n))

    return {**found, f"kornia {version('kornia')}": by_kornia}


# -- how long it takes -----------------------------------------------------------------------------


def measured(wanted: str, args: argparse.Namespace) -> list[dict[str, object]]:
    """One row for each contender."""
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(args.batch, 1, args.size, args.size, generator=draw)
    thetas = torch.eye(2, 3) + 0.1 * torch.randn(args.batch, 2, 3, generator=draw)
    upstream = torch.rand(images.shape, generator=draw)
    running = contenders()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    for _ in range(args.rounds + NOT_COUNTED):
        for name, contender in running.items():
            image = images.clone().requires_grad_(WANTED[wanted])
            theta = thetas.clone().requires_grad_()
            start = time.perf_counter()
            out = contender(image, theta)
            middle = time.perf_counter()
            out.backward(upstream)
            seconds[name].append((middle - start, time.perf_counter() - middle))
    return [
        {"wanted": wanted, "name": name, **summary(times[NOT_COUNTED:])}
        for name, times in seconds.items()
    ]


def summary(times: list[tuple[float, float]]) -> dict[str, float]:
    """Milliseconds: medians of forward, backward and both, and the best of both."""
    both = [sum(pair) for pair in times]
    forward, backward = (statistics.median(part) for part in zip(*times, strict=True))
    figures = {
        "forward_ms": forward,
        "backward_ms": backward,
        "median_ms": statistics.median(both),
        "best_ms": min(both),
    }
    return {name: round(1000 * value, 2) for name, value in figures.items()}


def page(found: dict[str, object]) -> list[str]:
    """The lines of the page."""
    rows = found["rows"]
    assert isinstance(rows, list)
    lines = [
        f"Machine: {found['machine']}; {found['threads']} threads. Batches of {found['batch']} "
        f"images of {found['size']}x{found['size']} pixels, {found['rounds']} rounds in turn.",
        "",
    ]
    head = ["", "forward ms", "backward ms", "both ms", "best ms", "stn3d / it, medians"]
    for wanted in WANTED:
        these = [row for row in rows if row["wanted"] == wanted]
        own = these[0]["median_ms"]
        told = [
            [
                row["name"],
                *(f"{row[key]:.1f}" for key in ("forward_ms", "backward_ms")),
                *(f"{row[key]:.1f}" for key in ("median_ms", "best_ms")),
                f"{own / row['median_ms']:.2f}",
            ]
            for row in these
        ]
        lines += [f"## Gradients of {wanted}", "", *table([head, *told]), ""]
    return lines[:-1]


if __name__ == "__main__":
    main()
