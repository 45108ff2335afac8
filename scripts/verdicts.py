#!/usr/bin/env python3
"""How far verdicts can be trusted: registrations with known truth, hopeless ones among them.

    scripts/verdicts.py run --work DIR [--first 0] [--count 300]
    scripts/verdicts.py report --work DIR --out docs/results/verdicts

Every case is drawn by its number: two images of ../shared/data of one person (two contrasts, CT and
MR templates, or one T1 twice), of which the moving one is carried along a random motion and half of
the time a random smooth deformation, with noise, often as a part of the body only; or two images
that have nothing to do with each other. Angles reach 180 degrees, slabs a fifth of the body, noise
half of the brightest tissue: many are meant to fail. The error is the mean distance from the truth
over what the fixed image shows and the moving image holds; over 5 mm, or of a pair without a truth,
a registration counts as failed. Templates are not one person: they are registered rigidly. The
limits of `stn3d.verdict` were set when the cases 0 to 59 and 124 to 179 were there.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from benchmark import machine
from stn3d.intensity import limits
from stn3d.verdict import Signs, judge
from torch import Tensor

import stn3d
from stn3d import Affine, Grid, InputError, Rigid, Transform, VelocityField, read_image
from stn3d.grid import apply_matrix
from stn3d.transforms import chain
from stn3d.warp import resample_image, warp_image

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SPACING_MM, FAILED_MM = 2.0, 5.0

CONTRASTS = tuple(f"contrasts/p07_{name}.nii.gz" for name in ("t1", "t1post", "t2", "flair"))
TEMPLATES = tuple(
    f"ct_mr/{name}.nii.gz" for name in ("scct", "mni152_t1_2mm", "avg152T2", "single_subj_T1")
)
BRAINS = tuple(f"brains/{number}_t1.nii.gz" for number in (1000, 1001, 1007, 1010, 1036))
STRANGERS = (
    (BRAINS[0], "lung_mr/0004.nii.gz"),
    ("abdomen/ct.nii.gz", CONTRASTS[0]),
    (TEMPLATES[0], "abdomen/ct.nii.gz"),
    ("lung_mr/0006.nii.gz", "abdomen/mr.nii.gz"),
    (TEMPLATES[1], "noise"),
    (CONTRASTS[2], "lung_mr/0007.nii.gz"),
)
FAMILIES = ("contrasts", "contrasts deformed", "templates", "one T1 deformed", "strangers")
SEEN = frozenset([*range(60), *range(124, 180)])  # the limits were chosen by these
MORE_STRANGERS = 300  # from this number on there are no other pairs


class Drawn(NamedTuple):
    """A case: both images, and the truth if there is one."""

    what: str
    fixed: tuple[Tensor, Grid]
    moving: tuple[Tensor, Grid]
    truth: Transform | None


def image(name: str, generator: torch.Generator) -> tuple[Tensor, Grid]:
    """``(1, 1, *shape)`` at 2 mm (or what it has, if that is coarser) and its grid."""
    if name == "noise":
        return torch.rand(1, 1, 90, 100, 90, generator=generator), Grid.of_spacing((90, 100, 90), 2)
    read = read_image(DATA / name, "image")
    grid = read.grid.coarsened(SPACING_MM)
    return resample_image(read.values, read.grid, grid), grid


def draw(number: int) -> Drawn:
    """The case of a number."""
    g = torch.Generator().manual_seed(number)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)

    def pick(names: tuple[Any, ...]) -> Any:
        return names[int(torch.randint(len(names), (), generator=g))]

    def carried(source: tuple[Tensor, Grid], truth: Transform, motion: Rigid) -> Any:
        """The moving image: along the truth, on a grid along the motion; noisy, maybe a part."""
        elsewhere = Grid(source[1].shape, motion.matrix @ source[1].world_from_index).padded(10)
        moved = warp_image(source[0], source[1], truth.inverse(), elsewhere)
        made = noisy(moved, float(pick((0.02, 0.05, 0.15, 0.5))), g), elsewhere
        return maybe_slab(made)

    def maybe_slab(one: tuple[Tensor, Grid]) -> tuple[Tensor, Grid]:
        share, axis = float(uniform(0.2, 0.7)), int(torch.randint(3, (), generator=g))
        return slab(one, share, axis) if pick((True, False, False)) else one

    strange = number >= MORE_STRANGERS or number // 2 % 5 == 4
    family = 4 if strange else number // 2 % 5
    if strange:
        first, second = pick(STRANGERS)
    else:
        names = (CONTRASTS, CONTRASTS, TEMPLATES, BRAINS)[family]
        first = pick(names)
        second = first if family == 3 else pick(tuple(n for n in names if n != first))
    fixed, source = image(first, g), image(second, g)
    grid, axis = fixed[1], uniform(-1, 1, 3)
    turn = axis / axis.norm() * math.radians(float(pick((20.0, 45.0, 90.0, 180.0))))
    motion = Rigid(torch.cat([turn * uniform(0.3, 1), uniform(-40, 40, 3)]), grid.centre_mm)
    bent = family in (1, 3)
    truth = chain(deformation(grid, g, float(uniform(2, 14))), motion) if bent else motion
    moving = carried(source, truth, motion)
    return Drawn(FAMILIES[family], maybe_slab(fixed), moving, None if strange else truth)


def deformation(grid: Grid, generator: torch.Generator, amplitude_mm: float) -> Transform:
    """The exponential of smooth noise, of vectors up to an amplitude."""
    coarse = grid.coarsened(24.0)
    v = torch.randn(1, 3, *coarse.shape, generator=generator)
    smooth = resample_image(v, coarse, grid.coarsened(8.0))
    smooth *= amplitude_mm / float(smooth.norm(dim=1).max())
    return VelocityField(smooth, grid.coarsened(8.0)).displacement


def noisy(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """With noise whose deviation is a share of the brightness."""
    low, high = limits(values)
    return values + share * (high - low) * torch.randn(values.shape, generator=generator)


def slab(one: tuple[Tensor, Grid], share: float, axis: int) -> tuple[Tensor, Grid]:
    """The middle part along an axis."""
    values, grid = one
    n = grid.shape[axis]
    keep = max(8, round(share * n))
    start, stop = [0] * 3, list(grid.shape)
    start[axis], stop[axis] = (n - keep) // 2, (n - keep) // 2 + keep
    part = values[(..., *(slice(a, b) for a, b in zip(start, stop, strict=True)))]
    return part.contiguous(), grid.cropped(start, stop)


def error_mm(found: Transform, case: Drawn) -> float:
    """See above; infinite where there is no truth."""
    if case.truth is None:
        return math.inf
    values, grid = case.fixed
    low, high = limits(values)
    index = (values[0, 0] > low + 0.05 * (high - low)).nonzero().double()
    points = apply_matrix(grid.world_from_index, index[:: 1 + len(index) // 20_000])
    true = case.truth(points)
    other = case.moving[1]
    at = apply_matrix(other.index_from_world, true)
    held = ((at > -0.5) & (at < torch.tensor(other.shape) - 0.5)).all(dim=-1)
    if not bool(held.any()):
        return math.inf
    return float((found(points[held]) - true[held]).norm(dim=-1).mean())


def registered(number: int) -> dict[str, Any]:
    """The row of a case."""
    case = draw(number)
    begin = time.perf_counter()
    row: dict[str, Any] = {"number": number, "what": case.what}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = stn3d.register(
                (case.fixed[0][0, 0], case.fixed[1]),
                (case.moving[0][0, 0], case.moving[1]),
                kind="rigid" if case.what == "templates" else None,
            )
    except InputError as error:
        return row | {"refused": str(error)}
    metrics = found.metrics
    return row | {
        "error_mm": error_mm(found.transform, case),
        "start_mm": error_mm(Affine.identity(3), case),
        "verdict": metrics["verdict"],
        "decided": {k: [v["value"], v["reason"]] for k, v in metrics["decided"].items()},
        "initial": metrics["initial"][:4],
        "seconds": round(time.perf_counter() - begin, 1),
    }


def run(work: Path, numbers: range) -> None:
    """Registers what is not registered yet; rows go to rows.jsonl."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "rows.jsonl"
    done = {row["number"] for row in read_rows(work)}
    for number in numbers:
        if number in done:
            continue
        row = registered(number)
        with path.open("a", encoding="utf8") as file:
            file.write(json.dumps(row) + "\n")
        print(number, row["what"], row.get("error_mm"), row.get("seconds"), flush=True)


def is_failure(row: dict[str, Any]) -> bool:
    """Whether a registration went wrong; JSON's Infinity is no truth at all."""
    return not row["error_mm"] <= FAILED_MM


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Verdicts against errors, in Markdown."""
    lines = ["| verdict | up to 2 mm | 2 to 5 mm | over 5 mm | no truth |", "|---|---|---|---|---|"]
    for word in ("good", "check", "failed", "refused"):
        mine = [row for row in rows if verdict_of(row) == word]
        errors = [row.get("error_mm", math.inf) for row in mine]
        strange = sum(row["what"] == "strangers" for row in mine)
        counts = (
            sum(e <= 2 for e in errors),
            sum(2 < e <= FAILED_MM for e in errors),
            sum(e > FAILED_MM for e in errors) - strange,
            strange,
        )
        lines.append(f"| {word} | " + " | ".join(str(n) for n in counts) + " |")
    return lines


def verdict_of(row: dict[str, Any]) -> str:
    """Of a row's signs, by the limits of today."""
    return "refused" if "refused" in row else judge(Signs(**row["verdict"]["signs"])).word


def summary(rows: list[dict[str, Any]]) -> str:
    """The two shares that count."""
    told = [row for row in rows if "refused" not in row]
    bad = [row for row in told if is_failure(row)]
    trusted = [row for row in bad if verdict_of(row) == "good"]
    fine = [row for row in told if row["error_mm"] <= 2]
    kept = [row for row in fine if verdict_of(row) == "good"]
    return (
        f"Of {len(bad)} failures {len(trusted)} were called good; "
        f"of {len(fine)} registrations within 2 mm {len(kept)} were."
    )


def report(work: Path, out: Path) -> None:
    """Writes OUT.json and OUT.md."""
    rows = sorted(read_rows(work), key=lambda row: row["number"])
    if not rows:
        raise SystemExit(f"{work} holds no rows; run first.")
    halves = {
        "Cases that the limits were chosen by": [r for r in rows if r["number"] in SEEN],
        "Cases that nothing was chosen by": [r for r in rows if r["number"] not in SEEN],
    }
    text = ["# How far a verdict can be trusted", "", "    scripts/verdicts.py run --work DIR"]
    text += ["    scripts/verdicts.py report --work DIR --out docs/results/verdicts", ""]
    text += [(__doc__ or "").split("\n\n")[2].strip(), "", f"Machine: {machine()}."]
    for title, half in halves.items():
        text += ["", f"## {title}", "", *table(half), "", summary(half)]
    text += ["", "## Failures that were called good, of all", ""]
    wrong = [r for r in rows if "refused" not in r and is_failure(r) and verdict_of(r) == "good"]
    text += [f"- {row['number']}: {row['what']}, {row['error_mm']:.1f} mm" for row in wrong] or [
        "None."
    ]
    out.with_suffix(".md").write_text("\n".join(text) + "\n", encoding="utf8")
    kept = [{key: row[key] for key in row if key != "initial"} for row in rows]
    plain = json.dumps({"machine": machine(), "rows": kept})
    out.with_suffix(".json").write_text(plain.replace("Infinity", "null") + "\n", encoding="utf8")


def read_rows(work: Path) -> list[dict[str, Any]]:
    """All rows below a folder."""
    texts = [path.read_text(encoding="utf8") for path in sorted(work.rglob("rows.jsonl"))]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="register the cases")
    running.add_argument("--work", type=Path, required=True)
    running.add_argument("--first", type=int, default=0)
    running.add_argument("--count", type=int, default=300)
    reporting = commands.add_parser("report", help="write the tables")
    reporting.add_argument("--work", type=Path, required=True)
    reporting.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    if args.command == "run":
        run(args.work, range(args.first, args.first + args.count))
    else:
        report(args.work, args.out)


if __name__ == "__main__":
    main()
