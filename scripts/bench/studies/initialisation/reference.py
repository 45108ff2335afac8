"""References of the initialisation study: the best known affine of each pair; greedy's affines."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import stn3d
from scripts.bench.images import foreground_points_mm
from scripts.bench.paths import image_path
from scripts.bench.process import Cost, run_process
from scripts.bench.store import Store
from scripts.bench.studies.initialisation.poses import Pose
from stn3d import Affine, read_image
from stn3d.losses.image_loss import ImageLoss
from stn3d.losses.similarity import METRICS
from stn3d.preprocessing.intensity import scaled
from stn3d.preprocessing.prepared import PreparedImage
from stn3d.transforms import Linear

# greedy's Python package runs command lines of its program; it may be in another environment.
GREEDY = """
import sys
from picsl_greedy import Greedy3D
for command in sys.argv[1:]:
    Greedy3D().execute(command)
"""


def reference(pose: Pose, file: Path, tools_python: str) -> Linear:
    """The best known affine of a pair: the identity for one person, else searched once and stored.

    Args:
        pose: a pose of the pair.
        file: results.json of the affines found so far.
        tools_python: the Python interpreter that has greedy.

    Raises:
        SystemExit: there is neither a stored affine nor greedy.
    """
    if pose.kind == "contrasts":
        return Affine.identity(3)
    store = Store(file, "initialisation", ("pair",), {}, {"content": "reference affines"})
    if not store.has({"pair": pose.pair}):
        if not has_greedy(tools_python):
            raise SystemExit(
                f"{file} has no reference for {pose.pair}, and {tools_python} has no picsl-greedy "
                "to help find one; give --tools-python (see scripts/bench/baselines.py)."
            )
        images = image_path(pose.fixed), image_path(pose.moving)
        store.add({"pair": pose.pair} | searched(*images, tools_python))
    row = next(row for row in store.rows if row["pair"] == pose.pair)
    return Affine.from_matrix(torch.tensor(row["matrix"]).double())


def searched(fixed: Path, moving: Path, tools_python: str) -> dict[str, Any]:
    """The affine of least LNCC loss at 2 mm among stn3d's, greedy's, and stn3d's from greedy's.

    Returns:
        ``matrix`` and the tool that ``found`` it; the ``loss`` of each; ``apart_mm``, the mean
        distance of each from it over the fixed brain.
    """
    options: dict[str, Any] = {"kind": "affine", "preset": "accurate", "threads": 1}
    found: dict[str, Any] = {"stn3d": stn3d.register(fixed, moving, **options).transform}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "affine.mat"
        greedy_affine((fixed, moving), out, ("NCC 2x2x2", "-ia-image-centers"), 1, tools_python)
        found["greedy"] = read_greedy(out)
    options["init"] = found["greedy"]
    found["stn3d from greedy"] = stn3d.register(fixed, moving, **options).transform
    loss = affine_loss(fixed, moving)
    losses = {name: loss(transform) for name, transform in found.items()}
    best = min(losses, key=lambda name: losses[name])
    points = foreground_points_mm(fixed)
    apart = {
        name: float((transform(points) - found[best](points)).norm(dim=-1).mean())
        for name, transform in found.items()
    }
    return {
        "found": best,
        "loss": {name: round(value, 5) for name, value in losses.items()},
        "apart_mm": {name: round(value, 3) for name, value in apart.items()},
        "matrix": found[best].matrix.tolist(),
    }


def affine_loss(fixed_path: Path, moving_path: Path) -> Callable[[Linear], float]:
    """The loss of an affine on a pair: LNCC in windows of radius 2 on a grid of 2 mm."""
    images = [read_image(path) for path in (fixed_path, moving_path)]
    fixed, moving = (PreparedImage(scaled(image.values), image.grid).at(2.0) for image in images)
    loss = ImageLoss(fixed, moving, METRICS["lncc"])
    to_world, from_world = fixed.grid.world_from_index, moving.grid.index_from_world
    return lambda transform: float(loss(from_world @ transform.matrix @ to_world))


def greedy_affine(
    images: tuple[Path, Path], out: Path, how: tuple[str, str], threads: int, tools_python: str
) -> Cost:
    """Greedy's affine of 12 parameters, into a text file; its process's seconds and memory.

    Args:
        images: the fixed and the moving one.
        out: the text file.
        how: its metric, and its start: ``moments`` (a run of their own: -ia-moments is in its
            help but not in 1.4) or options.
        threads: of greedy.
        tools_python: the Python that has it.

    Raises:
        subprocess.CalledProcessError: it failed; ``stderr`` is what it printed.
    """
    metric, start = how
    pair = f'-threads {threads} -seed 1 -m {metric} -i "{images[0]}" "{images[1]}"'
    commands = []
    if start == "moments":
        first = out.with_name("moments.mat")
        commands = [f'{pair} -moments 2 -det 1 -o "{first}"']
        start = f'-ia "{first}"'
    commands.append(f'{pair} -a -dof 12 -n 100x50x10 {start} -o "{out}"')
    return run_process([tools_python, "-c", GREEDY, *commands])


def read_greedy(path: Path) -> Affine:
    """The matrix is text, fixed points to moving points in RAS mm."""
    return Affine.from_matrix(torch.from_numpy(np.loadtxt(path)).double())


def has_greedy(tools_python: str) -> bool:
    """Whether greedy is installed there."""
    ask = [tools_python, "-c", "import picsl_greedy"]
    return subprocess.run(ask, capture_output=True).returncode == 0
