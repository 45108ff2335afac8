#!/usr/bin/env python3
"""Rigid registration of CT and MR heads from random starts: does it always end in the same place?

    scripts/ct_mr.py --work DIR --out docs/results/ct_mr [--count 50] [--options "--metric auto"]
        [--pairs "scct mni152_t1_2mm,..."] [--peers ants-rigid] [--peer-python peers/bin/python]

A pair is "FIXED MOVING", two images of ../shared/data/ct_mr, by default a CT head template with
three MR templates, both ways round. A start turns the moving image by up to 45 degrees about each
axis, about the middle of its field of view, and shifts it by up to 40 mm along each; all of it goes
into the header (sform and qform), so no voxel is resampled. Numbers are drawn from --seed and the
start's number alone, the same for every pair. Every run is a process of its own, from files to
files; stn3d is `stn3d register --kind rigid` with --options.

Rows are added to DIR/ct_mr.jsonl, and a run that was cut off goes on where it stood; run it again
with other --options or --peers to add a tool. OUT.json and OUT.md are written at the end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from benchmark import available, machine, reason, registered
from ct_mr_report import KEYS, Row, write_report
from rigid_figures import Floats, apart_mm, carried, consensus, read_matrix, spread
from rows import measure
from scipy.spatial.transform import Rotation
from starts_cases import grid_of, image_path, write_displaced

from stn3d.io import read_mask

MASK = "ct_mr/mni152_brainmask_2mm"
MR = ("mni152_t1_2mm", "avg152T2", "single_subj_T1")
PAIRS = ",".join([*(f"scct {mr}" for mr in MR), *(f"{mr} scct" for mr in MR)])
MAX_ANGLE_DEG, MAX_SHIFT_MM = 45.0, 40.0


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for figures")
    parser.add_argument("--out", type=Path, required=True, help="result files, without extension")
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--count", type=int, default=50, help="starts of each pair")
    parser.add_argument("--options", default="--metric auto", help="of stn3d register")
    parser.add_argument("--peers", default="", help="such as ants-rigid,greedy-rigid")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has peers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args(arguments)
    wanted = [f"stn3d --kind rigid {args.options}".strip(), *filter(None, args.peers.split(","))]
    tools = available(wanted, args.peer_python)
    pairs = [tuple(pair.split()) for pair in args.pairs.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise SystemExit(f"--pairs {args.pairs!r}: give pairs such as {PAIRS!r}.")
    head = {"machine": machine(), "threads": args.threads, "seed": args.seed}
    wanted_rows = [
        {"fixed": fixed, "moving": moving, "start": start, "tool": tool, "version": tools[tool]}
        for start in range(args.count)
        for fixed, moving in pairs
        for tool in tools
    ]
    path, how = args.work / "ct_mr.jsonl", (args.threads, args.peer_python)
    run = partial(measured, args.seed, how)
    head, rows = measure(path, head, KEYS, wanted_rows, run)
    write_report(head, with_spread(rows, brain_mm()), args.out)


def measured(seed: int, how: tuple[int, str], row: Row) -> Row:
    """``matrix``, what a row's tool found once the start is taken out, and its cost, or ``failed``.

    Args:
        seed: of all starts.
        how: threads, and the Python that has peers.
        row: pair, start and tool.
    """
    fixed, moving = (image_path(f"ct_mr/{row[role]}") for role in ("fixed", "moving"))
    displaced = displacement(seed, row["start"], grid_of(moving).centre_mm.numpy())
    with tempfile.TemporaryDirectory() as folder:
        image, out = Path(folder) / "moving.nii.gz", Path(folder) / "out"
        write_displaced(moving, displaced, image)
        try:
            cost = registered(row["tool"], (str(fixed), str(image)), out, *how)
        except subprocess.CalledProcessError as error:
            return {"failed": reason(error)}
        found = read_matrix(out / "transform.h5", brain_mm())
    matrix = np.linalg.inv(displaced) @ found
    return {"matrix": matrix.round(7).tolist()} | cost


def displacement(seed: int, start: int, centre_mm: Floats) -> Floats:
    """The matrix of a start: from the moving image's world, as in its file, to the displaced."""
    rng = np.random.default_rng([seed, start])
    angles = rng.uniform(-MAX_ANGLE_DEG, MAX_ANGLE_DEG, 3)
    shift = rng.uniform(-MAX_SHIFT_MM, MAX_SHIFT_MM, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = centre_mm - matrix[:3, :3] @ centre_mm + shift
    return matrix


def brain_mm() -> Floats:
    """``(N, 3)`` voxels of the brain in the space of all templates, every third along each axis."""
    mask = read_mask(image_path(MASK))
    every = (slice(None, None, 3),) * 3
    points: Floats = mask.grid.points_mm()[every][mask.values[0, 0][every] > 0].double().numpy()
    return points


def with_spread(rows: list[Row], points_mm: Floats) -> list[Row]:
    """The rows with ``identity_mm``, mean distance from the identity over the brain, and
    ``spread_mm``, the largest distance there from the consensus of the pair's and tool's runs."""
    matrices: dict[tuple[str, ...], list[Floats]] = {}
    for row in rows:
        if "matrix" in row:
            matrices.setdefault(_group(row), []).append(np.array(row["matrix"]))
    middles = {group: consensus(found, points_mm) for group, found in matrices.items()}
    judged = []
    for row in rows:
        if "matrix" in row:
            there = carried(np.array(row["matrix"]), points_mm)
            row = row | {"identity_mm": spread(apart_mm(there, points_mm))["mean"]}
            row |= {"spread_mm": spread(apart_mm(there, middles[_group(row)]))["max"]}
        judged.append(row)
    return judged


def _group(row: Row) -> tuple[str, ...]:
    return row["fixed"], row["moving"], row["tool"]


if __name__ == "__main__":
    main()
