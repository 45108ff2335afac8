#!/usr/bin/env python3
"""Rigid registration of one person's contrasts with a known truth, beside ANTs, elastix and greedy.

    scripts/contrasts_rigid.py --work DIR --out docs/results/contrasts_rigid [--count 20]
        [--pairs "t1 t2,t2 t1,t1 flair,flair t1post,t1 t1post,t2 flair"] [--options "--metric auto"]
        [--peers ants-rigid,elastix-rigid,greedy-rigid] [--peer-python peers/bin/python]

A pair is "FIXED MOVING", two contrasts of ../shared/data/contrasts. The moving one is turned by up
to 30 degrees about each axis and shifted by up to 20 mm along each, with noise and a bias field, by
../shared/bench/make_truth.py with the seeds 1 to --count. Pairs take 47 MB each, so each is made,
registered by every tool, scored and deleted. Every tool is a process of its own, from files to
files; stn3d is `stn3d register --kind rigid` with --options.

Rows are added to DIR/contrasts_rigid.jsonl, and a run that was cut off goes on where it stood; run
it again with other --options or --peers to add a tool. OUT.json and OUT.md are written at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmark import available, machine, reason, registered
from contrasts import contrast_path, make_pair
from contrasts_rigid_report import KEYS, LOST_MM, Row, write_report
from rigid_figures import (
    Floats,
    apart_mm,
    carried,
    motion,
    read_matrix,
    spread,
    turned,
    without_common_motion,
)
from rows import append, begin, read
from starts_cases import brain_points_mm

PAIRS = "t1 t2,t2 t1,t1 flair,flair t1post,t1 t1post,t2 flair"
PEERS = "ants-rigid,elastix-rigid,greedy-rigid"
TRUTH = ("--amplitude-mm", "0", "--scale", "1", "--rot-deg", "30", "--shift-mm", "20")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for figures and pairs")
    parser.add_argument("--out", type=Path, required=True, help="result files, without extension")
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--count", type=int, default=20, help="seeds of each pair")
    parser.add_argument("--options", default="--metric auto", help="of stn3d register")
    parser.add_argument("--peers", default=PEERS, help='"" for none')
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has peers")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    wanted = [f"stn3d --kind rigid {args.options}".strip(), *filter(None, args.peers.split(","))]
    tools = available(wanted, args.peer_python)
    path = args.work / "contrasts_rigid.jsonl"
    known = begin(path, {"machine": machine(), "threads": args.threads}, KEYS)
    for fixed, moving, seed in cases(args.pairs, args.count):
        todo = [tool for tool in tools if (fixed, moving, seed, tool) not in known]
        if not todo:
            continue
        pair = make_pair(args.work / "pairs" / fixed, moving, seed, fixed, TRUTH)
        for tool in todo:
            row = {"fixed": fixed, "moving": moving, "seed": seed, "tool": tool}
            row |= {"version": tools[tool]}
            row |= measured(tool, contrast_path(fixed), pair, args.threads, args.peer_python)
            print(json.dumps(row), flush=True)
            append(path, row)
        shutil.rmtree(pair)
    head, rows = read(path, KEYS)
    write_report(head, with_repeatability(rows), args.out)


def cases(pairs: str, count: int) -> Iterator[tuple[str, str, int]]:
    """Fixed and moving contrast and seed, seed by seed, so that a part of a run has all pairs.

    Raises:
        SystemExit: a pair is not two names.
    """
    named = [pair.split() for pair in pairs.split(",")]
    if any(len(pair) != 2 for pair in named):
        raise SystemExit(f"--pairs {pairs!r}: give pairs such as {PAIRS!r}.")
    for seed in range(1, count + 1):
        for fixed, moving in named:
            yield fixed, moving, seed


def measured(tool: str, fixed: Path, pair: Path, threads: int, peer_python: str) -> Row:
    """A tool on a pair: its error, its residual motion and its cost, or ``failed``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        images = (str(fixed), str(pair / "moving.nii.gz"))
        points = brain_points_mm(fixed).numpy()
        try:
            cost = registered(tool, images, out, threads, peer_python)
            found = read_matrix(out / "transform.h5", points)
        except subprocess.CalledProcessError as error:
            return {"failed": reason(error)}
    return figures(read_matrix(pair / "truth.h5", points), found, points) | cost


def figures(truth: Floats, found: Floats, points_mm: Floats) -> Row:
    """``error_mm`` over the points, and ``residual``, the motion of truth^-1 found."""
    residual = motion(np.linalg.inv(truth) @ found, points_mm.mean(0))
    error = spread(apart_mm(carried(found, points_mm), carried(truth, points_mm)))
    return {"error_mm": error, "residual": [round(float(x), 7) for x in residual]}


def with_repeatability(rows: list[Row]) -> list[Row]:
    """The rows with ``repeatability_mm``: the mean distance that is left of each residual without
    the mean motion of the same pair's and tool's other seeds that were not lost."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if "failed" not in row and row["error_mm"]["mean"] < LOST_MM:
            groups.setdefault((row["fixed"], row["moving"], row["tool"]), []).append(row)
    left: dict[int, Any] = {}
    for (fixed, *_), group in groups.items():
        points = brain_points_mm(contrast_path(fixed)).numpy()[::10]
        centre = points.mean(0)
        residuals = [turned(row["residual"][:3], row["residual"][3:], centre) for row in group]
        for row, distances in zip(group, without_common_motion(residuals, points), strict=True):
            left[id(row)] = None if distances is None else round(float(distances.mean()), 4)
    return [row | {"repeatability_mm": left.get(id(row))} for row in rows]


if __name__ == "__main__":
    main()
