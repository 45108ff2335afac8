"""The random starts of scripts/starts.py: what is drawn, and the answers that they are held to."""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from benchmark import timed
from numpy.typing import NDArray
from stn3d.intensity import scaled
from stn3d.pair import Dissimilarity, Pair, Scan
from torch import Tensor

import stn3d
from stn3d.grid import Grid
from stn3d.io import read_image
from stn3d.metrics import foreground
from stn3d.transforms import Affine, Linear, Similarity

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NUM_PAIRS = 20
MAX_ANGLE_DEG, MAX_SHIFT_MM, MAX_SCALE = 60.0, 40.0, 1.25
CONTRASTS = ("t2", "flair")

# Greedy's Python package runs command lines of its program; it may live in another environment.
GREEDY = """
import sys
from picsl_greedy import Greedy3D
for command in sys.argv[1:]:
    Greedy3D().execute(command)
"""


@dataclass(frozen=True)
class Start:
    """One random start: a pair of images, and how the moving one is displaced by its header.

    Args:
        index: its number.
        kind: ``brains``, T1 of two people, or ``contrasts``, T1 and T2 or FLAIR of one person.
        fixed: path below the data's folder, without extension.
        moving: the same of the moving image.
        rotation_rad: rotation vector.
        shift_mm: of the centre.
        scale: of the moving image.
    """

    index: int
    kind: str
    fixed: str
    moving: str
    rotation_rad: tuple[float, float, float]
    shift_mm: tuple[float, float, float]
    scale: float

    @property
    def angle_deg(self) -> float:
        """The rotation's angle."""
        return math.degrees(math.hypot(*self.rotation_rad))

    @property
    def pair(self) -> str:
        """The pair's name."""
        return f"{self.fixed} <- {self.moving}"

    def displacement(self, fixed: Grid, moving: Grid) -> Similarity:
        """From the moving image's world, as its file says, to the displaced one.

        It brings the middle of the moving field of view to that of the fixed one, for origins mean
        nothing across people, then turns and scales about it and shifts.
        """
        shift = fixed.centre_mm - moving.centre_mm + torch.tensor(self.shift_mm).double()
        turn = torch.tensor([*self.rotation_rad, math.log(self.scale)]).double()
        return Similarity(torch.cat([turn, shift]), moving.centre_mm)


def random_start(seed: int, index: int) -> Start:
    """The start of this number; brains and contrasts take turns.

    Axes are even on the sphere, angles even up to 60 degrees, shifts even up to 40 mm along each
    axis, scales even on a logarithmic scale from 0.8 to 1.25.
    """
    rng = np.random.default_rng([seed, index])
    axis, angle = rng.normal(size=3), math.radians(rng.uniform(0, MAX_ANGLE_DEG))
    x, y, z = (angle * axis / np.linalg.norm(axis)).tolist()
    right, front, up = rng.uniform(-MAX_SHIFT_MM, MAX_SHIFT_MM, 3).tolist()
    scale = float(MAX_SCALE ** rng.uniform(-1, 1))
    if index % 2 == 0:
        pairs = brain_pairs(seed)
        kind, (fixed, moving) = "brains", pairs[index // 2 % len(pairs)]
    else:
        contrast = CONTRASTS[index // 2 % len(CONTRASTS)]
        kind, fixed, moving = "contrasts", "contrasts/p07_t1", f"contrasts/p07_{contrast}"
    return Start(index, kind, fixed, moving, (x, y, z), (right, front, up), scale)


def brain_pairs(seed: int) -> list[tuple[str, str]]:
    """Twenty pairs, fixed and moving, in which everybody is both at least once."""
    people = sorted(p.name.removesuffix("_t1.nii.gz") for p in DATA.glob("brains/*_t1.nii.gz"))
    if len(people) < 3:
        raise SystemExit(f"{DATA}/brains holds fewer than three brains; put the data there.")
    order = [f"brains/{people[i]}_t1" for i in np.random.default_rng(seed).permutation(len(people))]
    n = len(order)
    return [(order[k % n], order[(k + 1 + k // n % (n - 1)) % n]) for k in range(NUM_PAIRS)]


def image_path(name: str) -> Path:
    """The file of an image, by its name in a `Start`.

    Raises:
        SystemExit: it is not there.
    """
    path = DATA / f"{name}.nii.gz"
    if not path.is_file():
        raise SystemExit(f"no file {path}; these starts need the project's data there.")
    return path


@dataclass(frozen=True, eq=False)
class Trial:
    """A start with its images and its answer.

    Args:
        start: the start.
        reference: fixed points to moving points, headers as they are.
    """

    start: Start
    reference: Linear

    @cached_property
    def points_mm(self) -> Tensor:
        """``(N, 3)`` positions of the fixed brain's voxels, every third along each axis."""
        return brain_points_mm(image_path(self.start.fixed))

    @cached_property
    def displacement(self) -> Similarity:
        """See `Start.displacement`."""
        return self.start.displacement(
            *(grid_of(image_path(name)) for name in (self.start.fixed, self.start.moving))
        )

    @property
    def truth(self) -> Linear:
        """Fixed points to points of the displaced moving image."""
        truth = self.reference.then(self.displacement)
        assert isinstance(truth, Linear)
        return truth

    def write_moving(self, path: Path) -> None:
        """The moving image with the displaced header; its voxels stay as they are."""
        write_displaced(image_path(self.start.moving), self.displacement.matrix.numpy(), path)

    def error_mm(self, found: Linear) -> float:
        """Mean distance from the answer over the fixed brain, in mm of the moving person.

        The start's scale is divided out, so that a millimetre is the same in every start.
        """
        apart = found(self.points_mm) - self.truth(self.points_mm)
        return float(apart.norm(dim=-1).mean()) / self.start.scale


def write_displaced(image: Path, matrix: NDArray[np.float64], path: Path) -> None:
    """An image whose header is carried along a matrix in RAS+ mm; its voxels stay as they are."""
    source: Any = nib.load(image)
    affine = matrix @ source.affine
    moved = nib.Nifti1Image(np.asanyarray(source.dataobj), affine)
    moved.set_sform(affine, code=1)
    moved.set_qform(affine, code=1)
    nib.save(moved, path)


def grid_of(path: Path) -> Grid:
    """An image's grid, from its header alone."""
    image: Any = nib.load(path)
    return Grid(image.shape, torch.from_numpy(image.affine))


def brain_points_mm(path: Path) -> Tensor:
    """``(N, 3)`` world positions of the foreground, every third voxel along each axis, float64."""
    image = read_image(path)
    every = (slice(None, None, 3),) * 3
    region = foreground(image.values)[every]
    return image.grid.points_mm()[every][region].double()


def reference(start: Start, cache: Path, peer_python: str) -> Linear:
    """The converged best for a pair: the identity for one person, else searched once and kept.

    Args:
        start: a start of the pair.
        cache: a JSON file of what was found so far.
        peer_python: the Python that has greedy.

    Raises:
        SystemExit: there is neither an answer nor greedy.
    """
    if start.kind == "contrasts":
        return Affine.identity(3)
    known = json.loads(cache.read_text(encoding="utf-8")) if cache.exists() else {}
    if start.pair not in known:
        if not has_greedy(peer_python):
            raise SystemExit(
                f"{cache} has no answer for {start.pair}, and {peer_python} has no picsl-greedy to "
                "help find one; give --peer-python (see scripts/peers.py)."
            )
        known[start.pair] = searched(image_path(start.fixed), image_path(start.moving), peer_python)
        cache.parent.mkdir(parents=True, exist_ok=True)
        beside = cache.with_name(cache.name + ".part")
        beside.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        beside.replace(cache)
        print(start.pair, json.dumps({k: v for k, v in known[start.pair].items() if k != "matrix"}))
    return Affine.from_matrix(torch.tensor(known[start.pair]["matrix"]).double())


def searched(fixed: Path, moving: Path, peer_python: str) -> dict[str, Any]:
    """The affine of least LNCC loss at 2 mm among stn3d's, greedy's, and stn3d's from greedy's.

    Returns:
        ``matrix`` and who ``found`` it; the ``loss`` of each; ``apart_mm``, how far each of them
        lies from it, mean over the fixed brain.
    """
    options: dict[str, Any] = {"kind": "affine", "preset": "accurate", "threads": 1}
    found: dict[str, Any] = {"stn3d": stn3d.register(fixed, moving, **options).transform}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "affine.mat"
        greedy_affine((fixed, moving), out, ("NCC 2x2x2", "-ia-image-centers"), 1, peer_python)
        found["greedy"] = read_greedy(out)
    options["init"] = found["greedy"]
    found["stn3d from greedy"] = stn3d.register(fixed, moving, **options).transform
    loss = affine_loss(fixed, moving)
    losses = {name: loss(transform) for name, transform in found.items()}
    best = min(losses, key=lambda name: losses[name])
    points = brain_points_mm(fixed)
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


def affine_loss(fixed_path: Path, moving_path: Path) -> Any:
    """The loss of an affine on a pair: LNCC in windows of radius 2 on a grid of 2 mm."""
    images = [read_image(path) for path in (fixed_path, moving_path)]
    pair = Pair(*[Scan(scaled(image.values), image.grid) for image in images])
    fixed, moving = pair.fixed.at(2.0), pair.moving.at(2.0)
    dissimilarity = Dissimilarity(fixed, moving, "lncc")
    to_world, from_world = fixed.grid.world_from_index, moving.grid.index_from_world
    return lambda transform: float(dissimilarity(from_world @ transform.matrix @ to_world))


def greedy_affine(
    images: tuple[Path, Path], out: Path, how: tuple[str, str], threads: int, peer_python: str
) -> dict[str, float]:
    """Greedy's affine of 12 parameters, into a text file; its process's seconds and memory.

    Args:
        images: the fixed and the moving one.
        out: the text file.
        how: its metric, and its start: ``moments`` (a run of their own: -ia-moments is in its
            help but not in 1.4) or options.
        threads: of greedy.
        peer_python: the Python that has it.

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
    return timed([peer_python, "-c", GREEDY, *commands])


def read_greedy(path: Path) -> Affine:
    """The matrix is text, fixed points to moving points in RAS mm."""
    return Affine.from_matrix(torch.from_numpy(np.loadtxt(path)).double())


def has_greedy(peer_python: str) -> bool:
    """Whether greedy is installed there."""
    ask = [peer_python, "-c", "import picsl_greedy"]
    return subprocess.run(ask, capture_output=True).returncode == 0
