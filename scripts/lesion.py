#!/usr/bin/env python3
"""A dark sphere in one of two brains: what it does to a registration, with and without a mask.

    scripts/lesion.py --work DIR --out docs/results/lesion [--pairs "1002 1010,1006 1013,1007 1036"]
        [--count 2] [--options "--preset default"] [--by exclude] [--threads 2]

A pair is "FIXED MOVING", T1 brains of two people (../shared/data/brains), or "1002 1002~3": one
brain, and the same carried along a known transform by ../shared/bench/make_truth.py, here with seed
3; then errors by the truth are told too. For each pair, side and number a sphere of 15 mm diameter
and a tenth of the brain's median brightness is put into the fixed or the moving brain, anywhere
whose nearest voxel outside of the brain is 20 mm away (drawn from --seed, the people and the
number). The pair is registered as it was ("free", once), with the sphere ("plain") and with the
sphere and its mask ("masked": --fixed-exclude or --moving-exclude, the sphere grown by 1 mm; with
--by mask, --fixed-mask or --moving-mask, its complement).

Rows are added to DIR/lesion.jsonl, and a run that was cut off goes on where it stood. OUT.json and
OUT.md are written at the end. Everything is measured from the files transform.h5 and inverse.h5, by
SimpleITK; what metrics.json says of lesions is kept in the rows, as "told".
"""

from __future__ import annotations

import argparse
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
from benchmark import available, machine, reason, registered
from bodies import save
from lesion_figures import Ball, carried_mm, errors, figures
from lesion_report import KEYS, Row, write_report
from numpy.typing import NDArray
from rows import measure
from scipy import ndimage
from starts_cases import image_path

PAIRS = "1002 1010,1006 1013,1007 1036"
KNOWN = "~"  # between a person and the seed of a known transform
SIDES = ("fixed", "moving")
DEPTH_MM, RADIUS_MM, DARK = 20.0, 7.5, 0.1
GROWN_MM = 1.0  # a mask is drawn so much wider


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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for figures and transforms"
    )
    parser.add_argument("--out", type=Path, required=True, help="result files, without extension")
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--count", type=int, default=2, help="spheres of each pair and side")
    parser.add_argument(
        "--options", default="--preset default", help="of stn3d register, in every run"
    )
    parser.add_argument("--by", choices=("exclude", "mask"), default="exclude")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=6)
    args = parser.parse_args(arguments)
    tool = f"stn3d {args.options}"
    head = {"machine": machine(), "threads": args.threads, "seed": args.seed, "tool": tool}
    head |= {"by": args.by, "version": available([tool], sys.executable)[tool]}
    pairs = "" if args.pairs == PAIRS else f' --pairs "{args.pairs}"'
    head |= {"command": f"scripts/lesion.py --work DIR --out docs/results/{args.out.name}{pairs}"}
    found = list(cases(args.pairs, args.count))
    for case in found:
        make_known(case, args.work)
    wanted = [asdict(case) | {"how": how} for case in found for how in ("plain", "masked")]
    run = partial(measured, head, args.work)
    head, rows = measure(args.work / "lesion.jsonl", head, KEYS, wanted, run)
    write_report(head, rows, args.out)


def cases(pairs: str, count: int) -> Iterator[Case]:
    """Every pair, side and number.

    Raises:
        SystemExit: a pair is not two names.
    """
    for number in range(count):
        for pair in pairs.split(","):
            if len(pair.split()) != 2:
                raise SystemExit(f"--pairs {pairs!r}: give pairs such as {PAIRS!r}.")
            fixed, moving = pair.split()
            for side in SIDES:
                yield Case(fixed, moving, side, number)


def free_run(case: Case, tool: str, work: Path, threads: int) -> Path:
    """The folder of the pair's registration without a sphere, made once."""
    made = work / "free" / f"{case.fixed}-{case.moving}"
    if not made.is_dir():
        beside = work / "part"
        shutil.rmtree(beside, ignore_errors=True)
        images = (str(brain(case.fixed, work)), str(brain(case.moving, work)))
        registered(tool, images, beside, threads)
        made.parent.mkdir(parents=True, exist_ok=True)
        beside.rename(made)
    return made


def measured(head: Row, work: Path, row: Row) -> Row:
    """A run with a sphere beside the free one: its figures and cost, or ``failed``.

    Args:
        head: what all runs have in common.
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
            cost = registered(
                tool, (files["fixed"], files["moving"]), out, threads, further=further
            )
        except subprocess.CalledProcessError as error:
            return {"failed": reason(error)}
        told = json.loads((out / "metrics.json").read_text(encoding="utf-8")).get("lesion")
        fixed = brain(case.fixed, work)
        found = figures(out, free, fixed, case.side, ball) | cost
        if KNOWN in case.moving:
            found |= errors(
                out, free, known_folder(case, work) / "truth.h5", fixed, case.side, ball
            )
    return found | ({"told": told} if told else {})


def mask_options(side: str, how: str, by: str, files: dict[str, str]) -> list[str]:
    """What `stn3d register` is asked besides."""
    return [f"--{side}-{by}", files[by]] if how == "masked" else []


def write_lesion(case: Case, seed: int, folder: Path, work: Path) -> tuple[dict[str, str], Ball]:
    """The pair with a sphere on its side, and its masks.

    In a moving brain whose truth is known the sphere lies where that takes a deep place of the
    fixed one.

    Returns:
        Paths: ``fixed``, ``moving``, ``exclude`` (1 in the sphere and a little around) and ``mask``
        (1 elsewhere); and the sphere.
    """
    values, affine = brain_of(case.people[case.side], work)
    names = [int(name) for person in (case.fixed, case.moving) for name in person.split(KNOWN)]
    rng = np.random.default_rng([seed, *names, case.number])
    known = KNOWN in case.moving
    deep = brain_of(case.fixed, work) if known else (values, affine)
    place = deep_place(deep[0] > 0, deep[1], rng)
    if known and case.side == "moving":
        place = carried_mm(known_folder(case, work) / "truth.h5", place)
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
    """A voxel's place in mm, at least `DEPTH_MM` from the voxels outside.

    Raises:
        SystemExit: there is none.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    filled = ndimage.binary_fill_holes(np.pad(inside, 1))
    depth = ndimage.distance_transform_edt(filled, sampling=spacing)[1:-1, 1:-1, 1:-1]
    deep = np.argwhere(depth >= DEPTH_MM)
    if not len(deep):
        raise SystemExit(f"no voxel lies {DEPTH_MM:g} mm deep; give other brains.")
    x, y, z = (affine[:3, :3] @ deep[rng.integers(len(deep))] + affine[:3, 3]).tolist()
    return x, y, z


def brain(person: str, work: Path) -> Path:
    """The image of a person, or of what `make_known` made of one."""
    if KNOWN in person:
        return work / "known" / person / "moving.nii.gz"
    return image_path(f"brains/{person}_t1")


def brain_of(person: str, work: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Values and affine of a brain."""
    image: Any = nib.load(brain(person, work))
    return np.asanyarray(image.dataobj).astype(np.float32), image.affine


def known_folder(case: Case, work: Path) -> Path:
    """Where a moving image with a known truth is."""
    return work / "known" / case.moving


def make_known(case: Case, work: Path) -> None:
    """Make the moving image of a pair whose truth is known, whole or not at all.

    Raises:
        SystemExit: it is another person's, or make_truth.py failed.
    """
    if KNOWN not in case.moving or known_folder(case, work).is_dir():
        return
    person, seed = case.moving.split(KNOWN)
    if person != case.fixed:
        raise SystemExit(f"--pairs: {case.moving} is not made of {case.fixed}; name it so.")
    beside = work / "part"
    shutil.rmtree(beside, ignore_errors=True)
    script = Path(__file__).resolve().parents[2] / "shared" / "bench" / "make_truth.py"
    command = [sys.executable, str(script), str(brain(person, work)), str(beside), "--seed", seed]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        raise SystemExit(f"make_truth.py failed on {case.moving}: {last}")
    known_folder(case, work).parent.mkdir(parents=True, exist_ok=True)
    beside.rename(known_folder(case, work))


if __name__ == "__main__":
    main()
