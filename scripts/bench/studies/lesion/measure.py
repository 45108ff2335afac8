"""Runs of the lesion study: the pairs, the spheres, and their registrations."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.bench.known_truth import contrast_pairs, make_known
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option, required
from scripts.bench.paths import image_path
from scripts.bench.process import failure_reason
from scripts.bench.store import Row, Store
from scripts.bench.studies.lesion.metrics import Ball, errors, sphere_metrics, transformed_mm
from scripts.bench.studies.lesion.page import report
from scripts.bench.tools import available, register_pair
from scripts.bench.written_pairs import save

PAIRS = "1002 1010,1006 1013,1007 1036"
KNOWN = "~"  # between a person and the seed of a known transform
SIDES = ("fixed", "moving")
DEPTH_MM, RADIUS_MM, DARK = 20.0, 7.5, 0.1
GROWN_MM = 1.0  # margin of the mask around the sphere
KEYS = ("fixed", "moving", "side", "number", "how")


@dataclass(frozen=True)
class Case:
    """A pair of people, the side that has a sphere, and the sphere's number."""

    fixed: str
    moving: str
    side: str
    number: int

    @property
    def people(self) -> dict[str, str]:
        return {"fixed": self.fixed, "moving": self.moving}


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    work: Path = required("folder for transforms of registrations without a sphere")
    pairs: str = option(PAIRS, "pairs of people, fixed and moving")
    count: int = option(2, "spheres of each pair and side")
    options: str = option("--preset default", "options of stn3d register in every run")
    by: str = option("exclude", "kind of the mask", choices=("exclude", "mask"))
    seed: int = option(6, "random seed of the spheres' positions")


def run(options: Options) -> None:
    """Measure what is not measured yet, then report."""
    tool = f"stn3d {options.options}"
    head: Row = {"machine": machine(), "threads": options.threads, "seed": options.seed}
    head |= {"tool": tool, "by": options.by, "version": available([tool], sys.executable)[tool]}
    found = list(cases(options.pairs, options.count))
    for case in found:
        make_moving(case, options.work)
    wanted = [asdict(case) | {"how": how} for case in found for how in ("plain", "masked")]
    store = Store(options.out, "lesion", KEYS, head, command=command_line("lesion", options))
    store.measure(wanted, partial(measured, head, options.work))
    report(options.out)


def cases(pairs: str, count: int) -> Iterator[Case]:
    """Every pair, side and number.

    Raises:
        SystemExit: a pair is not two names.
    """
    named = contrast_pairs(pairs)
    for number in range(count):
        for fixed, moving in named:
            for side in SIDES:
                yield Case(fixed, moving, side, number)


def free_run(case: Case, tool: str, work: Path, threads: int) -> Path:
    """Folder of the pair's registration without a sphere, run once."""
    made = work / "free" / f"{case.fixed}-{case.moving}"
    if not made.is_dir():
        beside = work / "part"
        shutil.rmtree(beside, ignore_errors=True)
        images = (str(brain(case.fixed, work)), str(brain(case.moving, work)))
        register_pair(tool, images, beside, threads)
        made.parent.mkdir(parents=True, exist_ok=True)
        beside.rename(made)
    return made


def measured(head: Row, work: Path, row: Row) -> Row:
    """One run with a sphere, compared with the free run: metrics and cost, or ``failed``.

    Args:
        head: what all runs share.
        work: folder of the free runs.
        row: the case, and ``how`` it is run.
    """
    case = Case(**{key: row[key] for key in ("fixed", "moving", "side", "number")})
    tool, threads = head["tool"], head["threads"]
    free = free_run(case, tool, work, threads)
    with tempfile.TemporaryDirectory() as folder:
        files, ball = write_lesion(case, head["seed"], Path(folder), work)
        out = Path(folder) / "out"
        further = mask_options(case.side, row["how"], head["by"], files)
        try:
            cost = register_pair(
                tool, (files["fixed"], files["moving"]), out, threads, further=further
            )
        except subprocess.CalledProcessError as error:
            return {"failed": failure_reason(error)}
        stored = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
        fixed = brain(case.fixed, work)
        found = sphere_metrics(out, free, fixed, case.side, ball) | cost
        if KNOWN in case.moving:
            found |= errors(
                out, free, known_folder(case, work) / "truth.h5", fixed, case.side, ball
            )
    regions = stored.get("excluded_regions")
    return found | ({"excluded_regions": regions} if regions else {})


def mask_options(side: str, how: str, by: str, files: dict[str, str]) -> list[str]:
    """Further options of ``stn3d register``."""
    return [f"--{side}-{by}", files[by]] if how == "masked" else []


def write_lesion(case: Case, seed: int, folder: Path, work: Path) -> tuple[dict[str, str], Ball]:
    """Write the pair with a sphere on one side, and the masks.

    In a moving brain with a known truth, the sphere is where the truth maps a place deep inside the
    fixed one.

    Returns:
        Paths: ``fixed``, ``moving``, ``exclude`` (1 in the sphere and its margin) and ``mask``
        (1 elsewhere); and the sphere.
    """
    values, affine = brain_of(case.people[case.side], work)
    names = [int(name) for person in (case.fixed, case.moving) for name in person.split(KNOWN)]
    rng = np.random.default_rng([seed, *names, case.number])
    known = KNOWN in case.moving
    deep = brain_of(case.fixed, work) if known else (values, affine)
    place = deep_place(deep[0] > 0, deep[1], rng)
    if known and case.side == "moving":
        place = transformed_mm(known_folder(case, work) / "truth.h5", place)
    ball = Ball(place, RADIUS_MM)
    files = {role: str(brain(person, work)) for role, person in case.people.items()}
    files |= {role: str(folder / f"{role}.nii.gz") for role in (case.side, "exclude", "mask")}
    dark = DARK * float(np.median(values[values > 0]))
    distance = ball.distance_mm(values.shape, affine)
    save(Path(files[case.side]), np.where(distance <= 0, dark, values), affine)
    wide = distance <= GROWN_MM
    save(Path(files["exclude"]), wide.astype(np.uint8), affine)
    save(Path(files["mask"]), (~wide).astype(np.uint8), affine)
    return files, ball


def deep_place(
    inside: NDArray[np.bool_], affine: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float, float]:
    """The position in mm of a random voxel at least `DEPTH_MM` from the voxels outside.

    Raises:
        SystemExit: there is no such voxel.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    filled = ndimage.binary_fill_holes(np.pad(inside, 1))
    depth = ndimage.distance_transform_edt(filled, sampling=spacing)[1:-1, 1:-1, 1:-1]
    deep = np.argwhere(depth >= DEPTH_MM)
    if not len(deep):
        raise SystemExit(f"no voxel lies {DEPTH_MM:g} mm inside; give other brains.")
    x, y, z = (affine[:3, :3] @ deep[rng.integers(len(deep))] + affine[:3, 3]).tolist()
    return x, y, z


def brain(person: str, work: Path) -> Path:
    """The image of a person, or what `make_moving` made from one."""
    if KNOWN in person:
        return work / "known" / person / "moving.nii.gz"
    return image_path(f"brains/{person}_t1")


def brain_of(person: str, work: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Values and affine of a brain."""
    image: Any = nib.load(brain(person, work))
    return np.asanyarray(image.dataobj).astype(np.float32), image.affine


def known_folder(case: Case, work: Path) -> Path:
    """Folder of a moving image with a known truth."""
    return work / "known" / case.moving


def make_moving(case: Case, work: Path) -> None:
    """Make the moving image of a pair with a known truth, if it is not there.

    Raises:
        SystemExit: it is not of the fixed person, or make_truth.py failed.
    """
    if KNOWN not in case.moving or known_folder(case, work).is_dir():
        return
    person, seed = case.moving.split(KNOWN)
    if person != case.fixed:
        raise SystemExit(
            f"--pairs: {case.moving} is not made from {case.fixed}; both must be one person."
        )
    make_known(brain(person, work), int(seed), known_folder(case, work))
