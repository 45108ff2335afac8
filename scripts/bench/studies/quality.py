"""Reliability of the automatic quality check: registrations with known truth, also hopeless ones.

    python -m scripts.bench quality run [--part 0 --parts 2] [--merge FOLDER]

Cases can be measured by several processes at once, each a part with an --out of its own; --merge
then adds the rows of another folder.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import stn3d
from scripts.bench import pages, paths
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option
from scripts.bench.paths import existing
from scripts.bench.store import Row, Store, read
from stn3d import Affine, Grid, InputError, Rigid, Transform, VelocityField, read_image
from stn3d.grid import apply_matrix
from stn3d.preprocessing.intensity import limits
from stn3d.registration.quality import Quality, assess_quality
from stn3d.registration.quality_measures import QualityMeasures
from stn3d.transforms import chain
from stn3d.warp import resample_image, warp_image

ABOUT = """\
Every case is drawn by its number: two images of shared/data of one person (two MR contrasts, CT and
MR templates, or one T1 twice), of which the moving one is transformed by a random rigid motion and
half of the time a random smooth deformation, with noise, often cropped to a part of the body; or
two unrelated images. From case 400 on both images are stacks of 2 to 8 slices of one person, 4 mm
thick along any axis, and the motion is within their plane. Angles reach 180 degrees, slabs a fifth
of the body, noise half of the brightest tissue: many cases are meant to fail. The error is the mean
distance to the truth over the fixed foreground that the moving image contains. A registration
counts as wrong if its error is above 5 mm, or if there is no truth because the images are
unrelated. Templates are not of one person and are registered rigidly, and so are stacks. Cases are
shown apart by what they were used for: the limits of `stn3d.registration.quality` were chosen when
0 to 59 and 124 to 179 were measured, and the rules for few slices with 400 to 413; all others were
measured afterwards and changed nothing. The limits of mirrored images, volume changes and landmarks
were chosen with other images, see docs/experiments/quality-limits.md."""
KEYS = ("number",)
SPACING_MM, FAILED_MM = 2.0, 5.0

CONTRASTS = tuple(f"contrasts/p07_{name}.nii.gz" for name in ("t1", "t1post", "t2", "flair"))
TEMPLATES = tuple(
    f"ct_mr/{name}.nii.gz" for name in ("scct", "mni152_t1_2mm", "avg152T2", "single_subj_T1")
)
BRAINS = tuple(f"brains/{number}_t1.nii.gz" for number in (1000, 1001, 1007, 1010, 1036))
UNRELATED_PAIRS = (
    (BRAINS[0], "lung_mr/0004.nii.gz"),
    ("abdomen/ct.nii.gz", CONTRASTS[0]),
    (TEMPLATES[0], "abdomen/ct.nii.gz"),
    ("lung_mr/0006.nii.gz", "abdomen/mr.nii.gz"),
    (TEMPLATES[1], "noise"),
    (CONTRASTS[2], "lung_mr/0007.nii.gz"),
)
UNRELATED = "unrelated"
FAMILIES = ("contrasts", "contrasts deformed", "templates", "one T1 deformed", UNRELATED)
STACKS = "stacks"
SEEN = frozenset([*range(60), *range(124, 180), *range(400, 414)])  # limits were chosen with these
ONLY_UNRELATED = 300  # from this number on, all pairs are unrelated
ONLY_STACKS = 400  # from this number on, all pairs are stacks of few slices
NUMBERS = (*range(250), *range(300, 370), *range(400, 442))


class Case(NamedTuple):
    """Both images, and the truth if there is one."""

    what: str
    fixed: tuple[Tensor, Grid]
    moving: tuple[Tensor, Grid]
    truth: Transform | None


def image(name: str, generator: torch.Generator) -> tuple[Tensor, Grid]:
    """``(1, 1, *shape)`` at 2 mm (or its own spacing, if that is coarser) and its grid."""
    if name == "noise":
        return torch.rand(1, 1, 90, 100, 90, generator=generator), Grid.of_spacing((90, 100, 90), 2)
    read = read_image(existing(paths.SHARED / "data" / name), "image")
    grid = read.grid.coarsened(SPACING_MM)
    return resample_image(read.values, read.grid, grid), grid


def draw_stacks(number: int) -> Case:
    """Two stacks of the same slices, moved within their plane."""
    g = torch.Generator().manual_seed(number)
    axis, count = number % 3, 2 + number // 3 % 7
    values, grid = image((*CONTRASTS, *BRAINS)[int(torch.randint(9, (), generator=g))], g)
    across = int(grid.world_from_index[:3, axis].abs().argmax())
    parameters = torch.zeros(6, dtype=torch.float64)
    parameters[across] = math.radians(20 * (2 * float(torch.rand((), generator=g)) - 1))
    parameters[3:] = 30 * torch.rand(3, generator=g, dtype=torch.float64) - 15
    parameters[3 + across] = 0
    truth = Rigid(parameters, grid.centre_mm)
    moved = warp_image(values, grid, truth.inverse(), grid)
    share = (0.02, 0.05, 0.15)[int(torch.randint(3, (), generator=g))]
    fixed, moving = (stack((one, grid), axis, count) for one in (values, noisy(moved, share, g)))
    return Case(STACKS, fixed, moving, truth)


def stack(one: tuple[Tensor, Grid], axis: int, count: int, step: int = 2) -> tuple[Tensor, Grid]:
    """Every second slice around the centre, along an axis."""
    values, grid = one
    start = (grid.shape[axis] - step * count) // 2
    index = torch.arange(start, start + step * count, step)
    matrix = grid.world_from_index.clone()
    matrix[:-1, -1] += start * matrix[:-1, axis]
    matrix[:-1, axis] *= step
    chosen = values.index_select(2 + axis, index).contiguous()
    return chosen, Grid(tuple(chosen.shape[2:]), matrix)


def draw(number: int) -> Case:
    """The case of a number."""
    if number >= ONLY_STACKS:
        return draw_stacks(number)
    g = torch.Generator().manual_seed(number)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)

    def pick(names: tuple[Any, ...]) -> Any:
        return names[int(torch.randint(len(names), (), generator=g))]

    def displaced(source: tuple[Tensor, Grid], truth: Transform, motion: Rigid) -> Any:
        """The moving image: deformed by the truth on a displaced grid, noisy, maybe cropped."""
        elsewhere = Grid(source[1].shape, motion.matrix @ source[1].world_from_index).padded(10)
        moved = warp_image(source[0], source[1], truth.inverse(), elsewhere)
        made = noisy(moved, float(pick((0.02, 0.05, 0.15, 0.5))), g), elsewhere
        return maybe_slab(made)

    def maybe_slab(one: tuple[Tensor, Grid]) -> tuple[Tensor, Grid]:
        share, axis = float(uniform(0.2, 0.7)), int(torch.randint(3, (), generator=g))
        return slab(one, share, axis) if pick((True, False, False)) else one

    unrelated = number >= ONLY_UNRELATED or number // 2 % 5 == 4
    family = 4 if unrelated else number // 2 % 5
    if unrelated:
        first, second = pick(UNRELATED_PAIRS)
    else:
        names = (CONTRASTS, CONTRASTS, TEMPLATES, BRAINS)[family]
        first = pick(names)
        second = first if family == 3 else pick(tuple(n for n in names if n != first))
    fixed, source = image(first, g), image(second, g)
    grid, axis = fixed[1], uniform(-1, 1, 3)
    turn = axis / axis.norm() * math.radians(float(pick((20.0, 45.0, 90.0, 180.0))))
    motion = Rigid(torch.cat([turn * uniform(0.3, 1), uniform(-40, 40, 3)]), grid.centre_mm)
    deformed = family in (1, 3)
    truth = chain(deformation(grid, g, float(uniform(2, 14))), motion) if deformed else motion
    moving = displaced(source, truth, motion)
    return Case(FAMILIES[family], maybe_slab(fixed), moving, None if unrelated else truth)


def deformation(grid: Grid, generator: torch.Generator, amplitude_mm: float) -> Transform:
    """The exponential of smooth noise, with vectors up to an amplitude."""
    coarse = grid.coarsened(24.0)
    v = torch.randn(1, 3, *coarse.shape, generator=generator)
    smooth = resample_image(v, coarse, grid.coarsened(8.0))
    smooth *= amplitude_mm / float(smooth.norm(dim=1).max())
    return VelocityField(smooth, grid.coarsened(8.0)).displacement


def noisy(values: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The image with noise; its standard deviation is a fraction of the intensity range."""
    low, high = limits(values)
    return values + share * (high - low) * torch.randn(values.shape, generator=generator)


def slab(one: tuple[Tensor, Grid], share: float, axis: int) -> tuple[Tensor, Grid]:
    """The central part along an axis."""
    values, grid = one
    n = grid.shape[axis]
    keep = max(8, round(share * n))
    start, stop = [0] * 3, list(grid.shape)
    start[axis], stop[axis] = (n - keep) // 2, (n - keep) // 2 + keep
    inner = [slice(a, b) for a, b in zip(start, stop, strict=True)]
    part = values[:, :, inner[0], inner[1], inner[2]]
    return part.contiguous(), grid.cropped(start, stop)


def error_mm(found: Transform, case: Case) -> float:
    """Mean distance to the truth, see `ABOUT`; infinite where there is no truth."""
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


def registered(number: int) -> Row:
    """Register a case: error, quality measures and automatic selections, or why it was refused."""
    case = draw(number)
    begin = time.perf_counter()
    row: Row = {"what": case.what}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = stn3d.register(
                (case.fixed[0][0, 0], case.fixed[1]),
                (case.moving[0][0, 0], case.moving[1]),
                kind="rigid" if case.what in ("templates", STACKS) else None,
            )
    except InputError as error:
        return row | {"refused": str(error)}
    metrics = found.metrics
    selected = metrics["auto_selected"]
    return row | {
        "true_error_mm": _finite(error_mm(found.transform, case)),
        "initial_error_mm": _finite(error_mm(Affine.identity(3), case)),
        "quality": metrics["quality"],
        "auto_selected": {k: {n: v[n] for n in ("choice", "reason")} for k, v in selected.items()},
        "wall_s": round(time.perf_counter() - begin, 1),
    }


def _finite(error: float) -> float | None:
    """None where there is no truth, since JSON has no infinity."""
    return error if math.isfinite(error) else None


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    part: int = option(0, "which part of the cases to measure, from 0")
    parts: int = option(1, "number of parts that the cases are divided into")
    merge: Path | None = option(None, "folder of further rows to add")


def run(options: Options) -> None:
    """Register the cases that are not registered yet, then report."""
    torch.set_num_threads(options.threads)
    text = command_line("quality", replace(options, part=0, parts=1, merge=None))
    store = Store(options.out, "quality", KEYS, {"machine": machine()}, command=text)
    if options.merge is not None:
        for row in read(options.merge).rows:
            store.add(row, show=False)
    numbers = NUMBERS[options.part :: options.parts]
    store.measure([{"number": n} for n in numbers], lambda row: registered(row["number"]))
    report(options.out)


# -- the page -------------------------------------------------------------------------------------


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    rows = sorted(results.rows, key=lambda row: row["number"])
    if not rows:
        raise SystemExit(f"{folder} holds no rows; run the study first.")
    volumes = [row for row in rows if row["number"] < ONLY_STACKS]
    stacks = [row for row in rows if row["number"] >= ONLY_STACKS]
    parts = {
        f"{what}, {use}": [row for row in group if (row["number"] in SEEN) == seen]
        for what, group in (("Volumes", volumes), ("Stacks of 2 to 8 slices", stacks))
        for use, seen in (("cases that limits were chosen with", True), ("held-out cases", False))
    }
    lines = ["# Reliability of the quality check", "", *pages.command(results), ABOUT, ""]
    lines += pages.conditions(results)
    for title, part in parts.items():
        lines += [f"## {title}", "", *pages.table(counts(part)), "", summary(part), ""]
    wrong = [row for row in rows if is_wrong(row) and status_of(row) == "good"]
    lines += ["## Wrong registrations with status good, all cases", ""]
    lines += [f"- {row['number']}: {row['what']}, {_error(row):.1f} mm" for row in wrong] or [
        "None."
    ]
    pages.write_page(folder, lines)


def is_wrong(row: Row) -> bool:
    """Whether a registration went wrong: a large error, or unrelated images."""
    return "refused" not in row and not _error(row) <= FAILED_MM


def _error(row: Row) -> float:
    error = row.get("true_error_mm")
    return math.inf if error is None else float(error)


def counts(rows: Sequence[Row]) -> list[list[str]]:
    """Status against error; the first line is the header."""
    lines = [["status", "up to 2 mm", "2 to 5 mm", "over 5 mm", "no truth"]]
    for status in ("good", "check", "failed", "refused"):
        mine = [row for row in rows if status_of(row) == status]
        errors = [_error(row) for row in mine]
        unrelated = sum(row["what"] == UNRELATED for row in mine)
        found = (
            sum(e <= 2 for e in errors),
            sum(2 < e <= FAILED_MM for e in errors),
            sum(e > FAILED_MM for e in errors) - unrelated,
            unrelated,
        )
        lines.append([status, *map(str, found)])
    return lines


def quality_of(row: Row) -> Quality:
    """What the current limits make of a row's measures."""
    return assess_quality(QualityMeasures(**row["quality"]["measures"]))


def status_of(row: Row) -> str:
    """The status that the current limits give to a row's measures."""
    return "refused" if "refused" in row else quality_of(row).status


def summary(rows: Sequence[Row]) -> str:
    """The fractions that matter."""
    ended = [row for row in rows if "refused" not in row]
    wrong = [row for row in ended if is_wrong(row)]
    trusted = [row for row in wrong if status_of(row) == "good"]
    fine = [quality_of(row) for row in ended if _error(row) <= 2]
    good, check, failed = (
        sum(one.status == status for one in fine) for status in ("good", "check", "failed")
    )
    mirrored = sum(any("left and right" in text for text in one.warnings) for one in fine)
    return (
        f"Of {len(wrong)} wrong registrations, {len(trusted)} had the status good; of {len(fine)} "
        f"registrations within 2 mm, {good} did, {check} had check and {failed} failed. Of the "
        f"latter {len(fine)}, {mirrored} had the warning that left and right may be exchanged."
    )
