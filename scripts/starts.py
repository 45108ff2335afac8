#!/usr/bin/env python3
"""Affine registration from random starts: how often it ends where it should, beside greedy.

    scripts/starts.py --work DIR [--count 200] [--methods own,header,network,network alone,greedy]
        [--peer-python peers/bin/python] [--peer-count N] [--threads 1] [--again]
        [--report docs/results/starts]

A start is a pair of images whose moving one is turned by up to 60 degrees about any axis, shifted
by up to 40 mm along each axis from where the fields of view share their middle, and scaled by 0.8
to 1.25. All of it goes into the header; nothing is resampled. Every other pair is T1 of two people
(../shared/data/brains), the rest T1 and T2 or FLAIR of one person (../shared/data/contrasts).
Numbers are drawn from the seed and the start's number alone (scripts/starts_cases.py).

The answer is the identity for one person; for two it is the affine of least LNCC loss at 2 mm that
stn3d, greedy, and stn3d from greedy's affine find without displacement, kept in --references. An
error is the mean distance from it over the fixed brain, in mm of the moving person; below 3 mm is
a success.

own: the optimiser from its own start. header: the optimiser from the headers as they are. network:
the optimiser from the affine network's answer. "network alone": that answer, with no step of the
optimiser. greedy: its affine from its own start (-moments 2: principal axes in all pairings, the
best by the metric), NCC for brains, NMI for contrasts, on the first --peer-count starts. stn3d is
timed within this process, file to transform and moved image (the network alone: to the affine),
after one run that is not counted; greedy as a process of its own, file to matrix. greedy is left
out where it is not installed.

Each figure is added to DIR/starts.jsonl; a run that was cut off goes on where it stood.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmark import machine
from rows import append, begin
from starts_cases import (
    Trial,
    greedy_affine,
    has_greedy,
    image_path,
    random_start,
    read_greedy,
    reference,
)
from starts_report import KEYS, write_report
from stn3d.intensity import scaled
from stn3d.pair import Pair, Scan

import stn3d
from stn3d.errors import InputError
from stn3d.nets.stages import NetworkStart
from stn3d.nets.weights import load_weights, shipped

ROOT = Path(__file__).resolve().parents[1]
# What each method asks of `stn3d.register`.
STN3D: dict[str, dict[str, str]] = {
    "own": {"localiser": "optimiser"},
    "header": {"localiser": "optimiser", "init": "header"},
    "network": {"localiser": "both"},
}
METHODS = (*STN3D, "network alone", "greedy")
# Its metric and its start.
GREEDY = {"brains": ("NCC 2x2x2", "moments"), "contrasts": ("NMI", "moments")}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for figures")
    parser.add_argument("--count", type=int, default=200, help="starts")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has greedy")
    parser.add_argument("--peer-count", type=int, help="starts of greedy; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--again", action="store_true", help="measure what is there too")
    parser.add_argument(
        "--references", type=Path, default=ROOT / "docs" / "results" / "starts_reference.json"
    )
    parser.add_argument("--report", type=Path, help="write this page at the end, without extension")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    path = args.work / "starts.jsonl"
    head = {"machine": machine(), "threads": args.threads, "seed": args.seed}
    begun = begin(path, head, KEYS)
    known = set() if args.again else begun
    for method in available(args.methods.split(","), args.peer_python):
        peers = args.count if args.peer_count is None else args.peer_count
        count = min(args.count, peers) if method == "greedy" else args.count
        todo = [i for i in range(count) if (i, method) not in known]
        unmeasured = [] if method == "greedy" else todo[:1]  # loads what all others find loaded
        for place, index in enumerate(unmeasured + todo):
            start = random_start(args.seed, index)
            trial = Trial(start, reference(start, args.references, args.peer_python))
            row = measured(trial, method, args.threads, args.peer_python)
            if place >= len(unmeasured):
                print(json.dumps(row), flush=True)
                append(path, row)
    if args.report:
        write_report(path, args.report)


def available(methods: list[str], peer_python: str) -> list[str]:
    """The methods that can run here; says in one line which cannot.

    Raises:
        SystemExit: a name that is no method's.
    """
    here = []
    for method in (name.strip() for name in methods):
        if method not in METHODS:
            raise SystemExit(f"--methods: there is no {method!r}; choose among {list(METHODS)}.")
        if method == "greedy" and not has_greedy(peer_python):
            print(f"greedy is left out: {peer_python} has no picsl-greedy.", file=sys.stderr)
        else:
            here.append(method)
    return here


def measured(trial: Trial, method: str, threads: int, peer_python: str) -> dict[str, Any]:
    """A start by a method: its error, None with the reason where it ``failed``, and seconds."""
    start = trial.start
    row = {"index": start.index, "kind": start.kind, "pair": start.pair, "method": method}
    row |= {"angle_deg": round(start.angle_deg, 1), "scale": round(start.scale, 3)}
    row["shift_mm"] = [round(shift, 1) for shift in start.shift_mm]
    with tempfile.TemporaryDirectory() as folder:
        moving = Path(folder) / "moving.nii"
        trial.write_moving(moving)
        run = {"greedy": by_greedy, "network alone": by_network}.get(method, by_stn3d)
        try:
            return row | run(trial, moving, method, threads, peer_python)
        except (InputError, subprocess.CalledProcessError) as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            return row | {"error_mm": None, "failed": lines[-1]}


def by_stn3d(
    trial: Trial, moving: Path, method: str, threads: int, peer_python: str
) -> dict[str, Any]:
    """The affine by `stn3d.register`, timed from files to its answer; ``initial`` won the start."""
    options: dict[str, Any] = {"kind": "affine", "threads": threads, "device": "cpu"}
    options |= STN3D[method]
    wall, cpu = time.perf_counter(), time.process_time()
    registration = stn3d.register(image_path(trial.start.fixed), moving, **options)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    transform: Any = registration.transform
    row = {"error_mm": round(trial.error_mm(transform), 3)}
    row |= {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}
    candidates = registration.metrics.get("initial")
    return row | ({"initial": candidates[0]["name"]} if candidates else {})


def by_network(
    trial: Trial, moving: Path, method: str, threads: int, peer_python: str
) -> dict[str, Any]:
    """The affine as the network answers it, timed from files to the answer.

    Raises:
        InputError: the network sees no head.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    images = [stn3d.read_image(path) for path in (image_path(trial.start.fixed), moving)]
    pair = Pair(*[Scan(scaled(image.values), image.grid) for image in images])
    transform = NetworkStart(load_weights(shipped("affine")))(pair, "affine")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if transform is None:
        raise InputError("the network sees no head in one of the images.")
    row = {"error_mm": round(trial.error_mm(transform), 3)}
    return row | {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}


def by_greedy(
    trial: Trial, moving: Path, method: str, threads: int, peer_python: str
) -> dict[str, Any]:
    """The affine by greedy, timed as a process."""
    out, images = moving.with_name("affine.mat"), (image_path(trial.start.fixed), moving)
    cost = greedy_affine(images, out, GREEDY[trial.start.kind], threads, peer_python)
    row = {"error_mm": round(trial.error_mm(read_greedy(out)), 3)}
    return row | {key: cost[key] for key in ("wall_s", "cpu_s")}


if __name__ == "__main__":
    main()
