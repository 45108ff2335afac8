#!/usr/bin/env python3
"""Time and memory of `stn3d register` over the size of the images, by synthetic pairs.

    scripts/scaling.py --out docs/results/scaling [--sizes 64,128,192,256] [--largest]
        [--max-memory GB] [--options "--preset fast"]

A pair is blobs under noise that fill a cube (with --largest also 512 x 512 x 400 voxels) of
1 mm voxels, 16 bits each; the moving image is the same, shifted and bent by a few millimetres. Each
is registered in a process of its own; wall seconds, CPU seconds and peak memory are the operating
system's account of it, beside the memory that stn3d had estimated. Of --repeats runs the least of
each is kept. After every size OUT.json is rewritten, and sizes that are there are kept unless
--again; at the end OUT.md and OUT.svg are drawn from it.
"""

# Pairs are made in a process of their own: the peak of a child is never told below its parent's.
from __future__ import annotations

import argparse
import json
import math
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmark import machine, timed
from benchmark_report import LABEL
from pages import new_figure, save_figure, table

LARGEST = (512, 512, 400)
COSTS = ("wall_s", "cpu_s", "peak_gb")
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="result files, without extension")
    parser.add_argument("--sizes", default="64,128,192,256", help="edges of cubes, in voxels")
    parser.add_argument("--largest", action="store_true", help="512 x 512 x 400 voxels too")
    parser.add_argument("--max-memory", type=float, metavar="GB", help="of every registration")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--options", default="", help="further ones of stn3d register")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="measure sizes that are there too")
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.make:
        make_pair(shape_of(args.make[0]), Path(args.make[1]))
        return
    if args.out is None:
        parser.error("give --out")
    options = ["--threads", str(args.threads), *shlex.split(args.options)]
    options += [] if args.max_memory is None else ["--max-memory", str(args.max_memory)]
    result = read_state(args.out, options)
    warm = False
    shapes = [(int(n),) * 3 for n in args.sizes.split(",") if n]
    for shape in [*shapes, *([LARGEST] if args.largest else [])]:
        name = "x".join(map(str, shape))
        if args.again or name not in result["rows"]:
            if not warm:
                measure("32x32x32", options, 1)  # compiles the loops where they are not yet
                warm = True
            result["rows"][name] = measure(name, options, args.repeats)
            print(name, json.dumps(result["rows"][name]), flush=True)
            write(args.out.with_suffix(".json"), json.dumps(result, indent=1) + "\n")
    drawn = plot(result, args.out.with_suffix(".svg"))
    text = markdown(result, args.out.with_suffix(".svg").name if drawn else None)
    write(args.out.with_suffix(".md"), text)


def shape_of(name: str) -> tuple[int, ...]:
    return tuple(int(n) for n in name.split("x"))


def read_state(out: Path, options: list[str]) -> dict[str, Any]:
    """What was measured so far, or an empty result.

    Raises:
        SystemExit: it was measured on another machine or with other options.
    """
    fresh = {"machine": machine(), "options": shlex.join(options), "rows": {}}
    path = out.with_suffix(".json")
    if not path.exists():
        return fresh
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key in ("machine", "options"):
        if state.get(key) != fresh[key]:
            raise SystemExit(
                f"{path} was measured with {key} {state.get(key)!r}, now it is {fresh[key]!r}: "
                "figures would not compare; give another --out."
            )
    return state


def write(path: Path, text: str) -> None:
    """A file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def measure(name: str, options: list[str], repeats: int) -> Row:
    """Register one synthetic pair: cost, estimate and finest level."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "--make", name, folder], check=True)
        images = [str(Path(folder) / f"{role}.nii.gz") for role in ("fixed", "moving")]
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "stn3d", "register", *images, "--out", str(out), *options]
        costs = [timed(command) for _ in range(repeats)]
        metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    row: Row = {"voxels": math.prod(shape_of(name))}
    row |= {key: min(cost[key] for cost in costs) for key in COSTS}
    row |= {key: metrics["memory"][key] for key in ("estimated_gb", "note")}
    row["finest_mm"] = metrics["stages"][-1]["spacing_mm"]
    row["correlation"] = [metrics[when]["correlation"] for when in ("before", "after")]
    return row


# -- synthetic pairs ------------------------------------------------------------------------------


def make_pair(shape: tuple[int, ...], folder: Path) -> None:
    """Write fixed.nii.gz and moving.nii.gz."""
    import nibabel as nib
    import numpy as np

    for seed, role in enumerate(("fixed", "moving"), start=1):
        voxels = np.empty(shape, np.int16)
        noise = np.random.default_rng(seed)
        for plane in range(shape[0]):
            values = _plane(shape, plane, bent=role == "moving")
            values += noise.normal(0, 10, values.shape)
            voxels[plane] = values
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / f"{role}.nii.gz")


def _plane(shape: tuple[int, ...], plane: int, bent: bool) -> Any:
    """Blobs of about 10 voxels on one plane, dark at the faces: a lattice of random numbers."""
    import numpy as np
    from scipy import ndimage

    lattice = np.random.default_rng(0).normal(1000, 200, [n // 10 + 6 for n in shape])
    axes = [np.array([plane]), np.arange(shape[1]), np.arange(shape[2])]
    index = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float64)
    if bent:
        waves = [np.sin(index[(axis + 1) % 3] / 25) for axis in range(3)]
        index += 2 + 1.5 * np.stack(waves)
    values = ndimage.map_coordinates(lattice, index.reshape(3, -1) / 10 + 2, order=1)
    sides = [np.minimum(i, n - 1 - i) for i, n in zip(index, shape, strict=True)]
    fade = np.prod([(side / 8 - 0.5).clip(0, 1) for side in sides], axis=0)
    return values.reshape(shape[1:]) * fade[0]


# -- what is told ---------------------------------------------------------------------------------


def rows_by_size(result: dict[str, Any]) -> list[tuple[str, Row]]:
    return sorted(result["rows"].items(), key=lambda item: int(item[1]["voxels"]))


def markdown(result: dict[str, Any], plot_name: str | None = None) -> str:
    """The conditions, the plot and a table of all sizes."""
    lines = [f"Machine: {result['machine']}; options: `{result['options']}`.", ""]
    if plot_name:
        lines += [f"![seconds and GB against voxels]({plot_name})", ""]
    labels = [LABEL[key] for key in COSTS]
    head = ["size", "million voxels", *labels, "estimated GB", "finest level mm", "CPU s / million"]
    cells = [head]
    for name, row in rows_by_size(result):
        million = row["voxels"] / 1e6
        figures = [million, *(row[key] for key in (*COSTS, "estimated_gb", "finest_mm"))]
        cells.append([name, *(f"{x:.4g}" for x in (*figures, row["cpu_s"] / million))])
    lines += table(cells)
    notes = [f"- {name}: {row['note']}" for name, row in rows_by_size(result) if row["note"]]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def plot(result: dict[str, Any], path: Path) -> bool:
    """Draw seconds and GB against voxels; False if matplotlib is not installed."""
    figure = new_figure(9, 4)
    if figure is None:
        return False
    rows = [row for _, row in rows_by_size(result)]
    million = [row["voxels"] / 1e6 for row in rows]
    panels = {"seconds": ("wall_s", "cpu_s"), "GB": ("peak_gb", "estimated_gb")}
    for axes, (unit, keys) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for key, style in zip(keys, ("o-", "s--"), strict=True):
            axes.plot(million, [row[key] for row in rows], style, label=key.rpartition("_")[0])
        axes.set(xlabel="million voxels of an image", ylabel=unit, ylim=(0, None), xlim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path)
    return True


if __name__ == "__main__":
    main()
