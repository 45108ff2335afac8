#!/usr/bin/env python3
"""Time and score stn3d beside a peer on the same pairs: whole processes, from files to files.

    scripts/benchmark.py PAIRS.csv --out docs/results/benchmark [--presets fast,default]

PAIRS.csv has a header line and the columns name, fixed, moving and, where known, fixed_labels,
moving_labels, true_transform (an ITK file); paths are relative to the CSV. Every tool registers
every pair in turn, in a process of its own with the same number of threads; wall seconds, CPU
seconds and peak memory are the operating system's account of that process. The transforms that the
tools wrote are then scored by one code. Writes OUT.json and OUT.md.

The peer is SimpleITK: affine by Mattes mutual information, histogram matching, then diffeomorphic
demons at 1/4, 1/2 and full resolution (100, 60, 30 iterations, field smoothed by 1.5 voxels).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

FIGURES = ("dice", "hd95_mm", "folding_pct", "sd_log_jac", "error_mm", "wall_s", "cpu_s", "peak_gb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="result files, without extension")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--presets", default="fast,default")
    args = parser.parse_args()
    tools = [f"stn3d {preset}" for preset in args.presets.split(",")] + ["SimpleITK demons"]
    rows = []
    for pair in read_pairs(args.pairs):
        for tool in tools:
            row = {"pair": pair["name"], "tool": tool, **run(tool, pair, args.threads)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    result = {"machine": machine(), "threads": args.threads, "rows": rows}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(markdown(result, tools))


def read_pairs(path: Path) -> list[dict[str, str]]:
    """The CSV's rows with absolute paths; empty cells are left out."""
    with path.open(newline="") as file:
        rows = [{key: cell for key, cell in row.items() if cell} for row in csv.DictReader(file)]
    for row in rows:
        row |= {k: str((path.parent / v).resolve()) for k, v in row.items() if k != "name"}
    return rows


def run(tool: str, pair: dict[str, str], threads: int) -> dict[str, Any]:
    """Register one pair with one tool in a process of its own and score its transform."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "stn3d", "register", pair["fixed"], pair["moving"]]
        command += ["--out", str(out), "--threads", str(threads), "--preset", tool.split()[-1]]
        if not tool.startswith("stn3d"):
            command = [sys.executable, __file__, "--peer", pair["fixed"], pair["moving"]]
            command += [str(out), str(threads)]
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        error = process.stderr.read().decode() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        if status:
            raise SystemExit(f"{tool} failed on {pair['name']}:\n{error}")
        cost = {
            "wall_s": round(wall, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_gb": round(usage.ru_maxrss / 1024**2, 2),
        }
        # In a process too: the peak of a child is never told below its parent's own size.
        command = [sys.executable, __file__, "--score", json.dumps(pair), str(out / "transform.h5")]
        scored = subprocess.run(command, check=True, capture_output=True, encoding="utf8")
        return json.loads(scored.stdout) | cost


def score(pair: dict[str, str], transform: Path) -> dict[str, Any]:
    """Figures of a transform file on a pair, by stn3d's own evaluation."""
    from stn3d.evaluate import Case, evaluate
    from stn3d.io import read_image, read_labels, read_transform

    labels = [read_labels(pair[k]) for k in ("fixed_labels", "moving_labels") if k in pair]
    truth = read_transform(pair["true_transform"]) if "true_transform" in pair else None
    images = [read_image(pair[k], k) for k in ("fixed", "moving")]
    case = Case(*images, *(labels if len(labels) == 2 else ()), true_transform=truth)
    figures = evaluate(case, read_transform(transform))
    if truth is not None:
        figures["error_mm"] = figures["error_mm"]["mean"]
    return {key: figures[key] for key in FIGURES if key in figures}


def peer(fixed_path: str, moving_path: str, out: Path, threads: int) -> None:
    """SimpleITK's affine and demons; writes OUT/transform.h5."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    fixed, moving = (sitk.ReadImage(path, sitk.sitkFloat32) for path in (fixed_path, moving_path))
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.2)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SetInitialTransform(start, inPlace=False)
    affine = method.Execute(fixed, moving)
    moved = sitk.Resample(moving, fixed, affine, sitk.sitkLinear)
    moved = sitk.HistogramMatching(moved, fixed, 256, 10)
    field = None
    for shrink, iterations in ((4, 100), (2, 60), (1, 30)):
        a, b = (sitk.Shrink(image, [shrink] * 3) for image in (fixed, moved))
        demons = sitk.DiffeomorphicDemonsRegistrationFilter()
        demons.SetNumberOfIterations(iterations)
        demons.SetStandardDeviations(1.5)
        if field is not None:
            field = sitk.Resample(field, a)
        field = demons.Execute(a, b, field) if field is not None else demons.Execute(a, b)
    assert field is not None
    dense = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    out.mkdir()
    total = sitk.CompositeTransform([affine, dense])
    total.FlattenTransform()
    sitk.WriteTransform(total, str(out / "transform.h5"))


def machine() -> str:
    """What this was measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}"


def markdown(result: dict[str, Any], tools: list[str]) -> str:
    """A table of means over pairs and ratios to the peer, then one of all runs."""
    rows = result["rows"]
    pairs = len({row["pair"] for row in rows})
    shown = [key for key in FIGURES if any(key in row for row in rows)]
    lines = [f"Machine: {result['machine']}; {result['threads']} threads; {pairs} pairs.", ""]
    lines += [f"| mean | {' | '.join(shown)} | wall / peer |", "|---" * (len(shown) + 2) + "|"]
    peer_wall = [row["wall_s"] for row in rows if row["tool"] == tools[-1]]
    for tool in tools:
        mine = [row for row in rows if row["tool"] == tool]
        ratio = mean(a["wall_s"] / b for a, b in zip(mine, peer_wall, strict=True))
        cells = []
        for key in shown:
            values = [row[key] for row in mine if row.get(key) is not None]
            cells.append(f"{mean(values):.4g}" if values else "")
        lines.append(f"| {tool} | {' | '.join(cells)} | {ratio:.2f} |")
    lines += ["", f"| pair | tool | {' | '.join(shown)} |", "|---" * (len(shown) + 2) + "|"]
    for row in rows:
        cells = [f"{row[key]:.4g}" if row.get(key) is not None else "" for key in shown]
        lines.append(f"| {row['pair']} | {row['tool']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]))
    elif sys.argv[1:2] == ["--score"]:
        print(json.dumps(score(json.loads(sys.argv[2]), Path(sys.argv[3]))))
    else:
        main()
