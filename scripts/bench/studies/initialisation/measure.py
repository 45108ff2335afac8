"""Runs of the initialisation study, method by method."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import stn3d
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.paths import RESULTS, image_path
from scripts.bench.store import Row, Store
from scripts.bench.studies.initialisation.page import KEYS, report
from scripts.bench.studies.initialisation.poses import Trial, random_pose
from scripts.bench.studies.initialisation.reference import (
    greedy_affine,
    has_greedy,
    read_greedy,
    reference,
)
from stn3d import InputError
from stn3d.nets.stages import NetworkInitialiser
from stn3d.nets.weights import bundled_weights, load_weights
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.pair import Pair
from stn3d.preprocessing.prepared import PreparedImage

REFERENCES = RESULTS / "initialisation" / "references.json"
# Arguments of `stn3d.register` for each method.
STN3D: dict[str, dict[str, str]] = {
    "default": {"estimator": "optimiser"},
    "header": {"estimator": "optimiser", "init": "header"},
    "network": {"estimator": "both"},
}
NETWORK_ONLY = "network only"
METHODS = (*STN3D, NETWORK_ONLY, "greedy")
# greedy's metric and initialisation.
GREEDY = {"brains": ("NCC 2x2x2", "moments"), "contrasts": ("NMI", "moments")}


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    count: int = option(200, "number of poses")
    methods: str = option(",".join(METHODS), "methods")
    greedy_count: int | None = option(None, "number of poses for greedy; all by default")
    tools_python: str = option(sys.executable, "the Python interpreter that has greedy")
    threads: int = option(1, "CPU threads")
    seed: int = option(4, "random seed of the poses")
    references: Path = option(REFERENCES, "file of the reference affines")
    again: bool = option(False, "measure rows that have an outcome too")


def run(options: Options) -> None:
    """Measure what is not measured yet, then report."""
    torch.set_num_threads(options.threads)
    shared = {"machine": machine(), "threads": options.threads, "seed": options.seed}
    text = command_line("initialisation", options)
    store = Store(options.out, "initialisation", KEYS, shared, command=text)
    for method in available(options.methods.split(","), options.tools_python):
        _run_method(method, options, store)
    report(options.out)


def _run_method(method: str, options: Options, store: Store) -> None:
    count = options.count
    if method == "greedy" and options.greedy_count is not None:
        count = min(count, options.greedy_count)
    known = {row["index"] for row in store.results.done if row["method"] == method}
    todo = [index for index in range(count) if options.again or index not in known]
    warm_up = [] if method == "greedy" else todo[:1]  # loads what later runs find loaded
    for place, index in enumerate(warm_up + todo):
        pose = random_pose(options.seed, index)
        trial = Trial(pose, reference(pose, options.references, options.tools_python))
        row = measured(trial, method, options.threads, options.tools_python)
        if place >= len(warm_up):
            store.add(row)


def available(methods: Sequence[str], tools_python: str) -> list[str]:
    """The methods that can run here; prints a line if greedy cannot.

    Raises:
        SystemExit: a name is unknown.
    """
    here = []
    for method in (name.strip() for name in methods):
        if method not in METHODS:
            raise SystemExit(f"--methods: there is no {method!r}; choose from {list(METHODS)}.")
        if method == "greedy" and not has_greedy(tools_python):
            print(f"greedy is omitted: {tools_python} has no picsl-greedy.", file=sys.stderr)
        else:
            here.append(method)
    return here


def measured(trial: Trial, method: str, threads: int, tools_python: str) -> Row:
    """One run: its error and seconds; where it ends without a transform, why it was ``refused``."""
    pose = trial.pose
    row: Row = {"index": pose.index, "kind": pose.kind, "pair": pose.pair, "method": method}
    row |= {"angle_deg": round(pose.angle_deg, 1), "scale": round(pose.scale, 3)}
    row["shift_mm"] = [round(shift, 1) for shift in pose.shift_mm]
    with tempfile.TemporaryDirectory() as folder:
        moving = Path(folder) / "moving.nii"
        trial.write_moving(moving)
        measure = MEASURES.get(method, by_stn3d)
        try:
            return row | measure(trial, moving, method, threads, tools_python)
        except (InputError, subprocess.CalledProcessError) as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            return row | {"true_error_mm": None, "refused": lines[-1]}


def by_stn3d(trial: Trial, moving: Path, method: str, threads: int, tools_python: str) -> Row:
    """The affine of `stn3d.register`, timed from files to the result.

    ``initial`` is the initial transform that was selected.
    """
    options: dict[str, Any] = {"kind": "affine", "threads": threads, "device": "cpu"}
    options |= STN3D[method]
    wall, cpu = time.perf_counter(), time.process_time()
    registration = stn3d.register(image_path(trial.pose.fixed), moving, **options)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    transform: Any = registration.transform
    row = {"true_error_mm": round(trial.error_mm(transform), 3)}
    row |= {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}
    candidates = registration.metrics.get("initial_candidates")
    return row | ({"initial": candidates[0]["name"]} if candidates else {})


def by_network(trial: Trial, moving: Path, method: str, threads: int, tools_python: str) -> Row:
    """The affine that the network estimates, timed from files to the result.

    Raises:
        InputError: the network detects no head.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    images = [stn3d.read_image(path) for path in (image_path(trial.pose.fixed), moving)]
    fixed_image, moving_image = (
        PreparedImage(scaled(image.values), image.grid) for image in images
    )
    pair = Pair(fixed_image, moving_image)
    transform = NetworkInitialiser(load_weights(bundled_weights("affine")))(pair, "affine")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if transform is None:
        raise InputError("the network detects no head in one of the images.")
    row = {"true_error_mm": round(trial.error_mm(transform), 3)}
    return row | {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}


def by_greedy(trial: Trial, moving: Path, method: str, threads: int, tools_python: str) -> Row:
    """The affine of greedy, timed as a process."""
    out, images = moving.with_name("affine.mat"), (image_path(trial.pose.fixed), moving)
    cost = greedy_affine(images, out, GREEDY[trial.pose.kind], threads, tools_python)
    row = {"true_error_mm": round(trial.error_mm(read_greedy(out)), 3)}
    return row | {key: cost[key] for key in ("wall_s", "cpu_s")}


MEASURES: dict[str, Callable[[Trial, Path, str, int, str], Row]] = {
    "greedy": by_greedy,
    NETWORK_ONLY: by_network,
}
