"""Clinical scans: thick slices, noise and other contrasts under known deformations.

    python -m scripts.bench clinical run --work DIR [--contrasts t2,flair,pd] [--thickness 3,5,6]
        [--axes x,y,z] [--noise 3,9] [--seeds 1,2,3,4,5,6,7,8,9,10] [--roles moving,fixed,both]
        [--profile box] [--voxel-mm 2] [--balanced] [--tools "stn3d --kind deformable,ants-syn"]

One person's T1 is the fixed image, and a T2, FLAIR or PD-like image of the same person the moving
one, deformed by shared/bench/make_truth.py with its defaults but without noise. It is then sampled
in slices of --thickness mm along an axis of its grid, with a Gaussian slice profile whose full
width at half maximum is the thickness (or a box), and given Rician noise of --noise % of its bright
intensities. With the role "fixed" the T1 is deformed, and the other contrast is fixed and has the
slices; with "both" the T1 has slices too, along the next axis.

All options together make 540 pairs for each role. With --voxel-mm both images are cut to the brain
and sampled in such voxels. --balanced selects a Latin square of the pairs: each contrast and
thickness once for each seed, with alternating directions and noise; seeds 1,2,3 with --noise 3,9
and again with --noise 9,3 are one pair of each cell. Pairs are removed once they are measured; the
deformed contrasts, 12 to 24 MB each, are kept in DIR. Run again with other options to add pairs or
tools.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

from scripts.bench.clinical_pairs import AXES, OWN_MM, PD, Case, Role, errors_mm, make_pair
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option, required
from scripts.bench.pages import command, conditions, failures, number, table, write_page
from scripts.bench.pair_report import average
from scripts.bench.process import failure_reason
from scripts.bench.store import Row, Store, read
from scripts.bench.thick_slices import Profile
from scripts.bench.tools import available, quality_status, register_pair

CONTRASTS = ("t2", "flair", PD)
KEYS = (
    "role",
    "contrast",
    "thickness_mm",
    "axis",
    "noise_pct",
    "profile",
    "voxel_mm",
    "seed",
    "tool",
)
CELL = ("role", "voxel_mm", "contrast", "thickness_mm", "axis", "noise_pct")
GROUPS = {
    "Contrast and thickness": ("role", "contrast", "thickness_mm"),
    "Direction of the slices": ("role", "axis"),
    "Noise": ("role", "noise_pct"),
    "Image with slices": ("role",),
}
ABOUT = """\
One person's T1 and the same person's T2, FLAIR or a PD-like image (T1^0.25 T2^0.75), under a random
affine and a random smooth diffeomorphism (shared/bench/make_truth.py, 12.5 mm on average). The
image that the role names is sampled in thick slices across an axis of its grid, with a slice
profile, and has Rician noise; "both" also samples the T1, across the next axis. Voxels within the
slices and of the sharp image are of 1 mm, or larger ones on the field of view of the brain, which
makes every tool faster. The error is the mean distance to the true transform over the brain of the
sharp T1, mm."""


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    work: Path = required("folder for the deformed contrasts")
    contrasts: str = option("t2,flair,pd", "contrasts beside the T1")
    thickness: str = option("3,5,6", "thickness of the slices, mm")
    axes: str = option("x,y,z", "axes of the grid across the slices")
    noise: str = option("3,9", "noise, percent of the bright intensities")
    seeds: str = option("1,2,3,4,5,6,7,8,9,10", "seeds of make_truth.py")
    roles: str = option("moving", "images with thick slices: moving, fixed, both")
    profile: str = option("gaussian", "slice profile", get_args(Profile))
    voxel_mm: float = option(OWN_MM, "spacing within the slices and of an image without, mm")
    balanced: bool = option(False, "a Latin square of directions and noise levels")
    tools: str = option("stn3d --kind deformable", "names from tools.py and baselines.py")
    tools_python: str = option(sys.executable, "the Python interpreter that has the other tools")


def run(options: Options) -> None:
    """Measure what is not measured yet, then report."""
    tools = available(options.tools.split(","), options.tools_python)
    shared = {"machine": machine(), "threads": options.threads}
    store = Store(options.out, "clinical", KEYS, shared, command=command_line("clinical", options))
    options.work.mkdir(parents=True, exist_ok=True)
    for case in cases(options):
        rows = [vars(case) | {"tool": tool, "version": tools[tool]} for tool in tools]
        rows = [row for row in rows if not store.has(row)]
        if not rows:
            continue
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            pair = make_pair(case, options.work, Path(folder) / "pair")
            for row in rows:
                store.add(row | measured(row["tool"], pair, options))
    report(options.out)


def cases(options: Options) -> Iterator[Case]:
    """The pairs of the options, seed by seed, so that a partial run has all kinds.

    Raises:
        SystemExit: a name is unknown, or a number is none.
    """
    roles = _names("roles", options.roles, get_args(Role))
    contrasts = _names("contrasts", options.contrasts, CONTRASTS)
    axes = _names("axes", options.axes, AXES)
    thickness, noise = (_numbers(key, getattr(options, key)) for key in ("thickness", "noise"))
    kinds = list(product(roles, enumerate(contrasts), enumerate(thickness)))
    for seed in map(int, _numbers("seeds", options.seeds)):
        for role, (i, contrast), (j, thickness_mm) in kinds:
            chosen = list(product(axes, noise))
            if options.balanced:
                turn = i + j + seed
                chosen = [(axes[turn % len(axes)], noise[(i + turn) % len(noise)])]
            for axis, level in chosen:
                profile: Any = options.profile
                yield Case(
                    *(role, contrast, thickness_mm, axis, level, profile, seed, options.voxel_mm)
                )


def _names(key: str, text: str, known: Sequence[str]) -> list[Any]:
    found = text.split(",")
    if unknown := sorted({*found} - {*known}):
        raise SystemExit(f"--{key} {unknown[0]!r}: choose from {', '.join(known)}.")
    return found


def _numbers(key: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise SystemExit(f"--{key} {text!r}: give numbers such as 3,5.") from None


def measured(tool: str, pair: Path, options: Options) -> Row:
    """One run: its error, its cost and, for stn3d, its quality check; or ``failed``."""
    images = (str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        try:
            cost = register_pair(tool, images, out, options.threads, options.tools_python)
        except subprocess.CalledProcessError as error:
            return {"failed": failure_reason(error)}
        errors = errors_mm(out / "transform.h5", pair / "truth.h5")
        return errors | cost | quality_status(out)


# -- the page -------------------------------------------------------------------------------------


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    lines = ["# Clinical scans: thick slices, noise, other contrasts", "", *command(results)]
    lines += [ABOUT, "", *conditions(results)]
    for voxel_mm in sorted({row["voxel_mm"] for row in results.done}):
        measured_there = [row for row in results.done if row["voxel_mm"] == voxel_mm]
        for title, rows in blocks(measured_there):
            lines += [f"## {title}, {voxel_mm:g} mm", ""]
            for name, keys in GROUPS.items():
                lines += [f"### {name}", "", *table(means(rows, keys)), ""]
    lines += ["## Cells", "", *cells(results.done)]
    lines += failures(results.failed, "{contrast} {thickness_mm} mm {axis}, seed {seed}, {tool}")
    write_page(folder, lines)


def blocks(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """A title and the rows of the pairs that all tools registered; then, where other pairs were
    registered too, those of the tools that registered them all."""
    tools: dict[str, set[tuple[Any, ...]]] = {}
    for row in rows:
        tools.setdefault(row["tool"], set()).add(_pair(row))
    shared, every = set.intersection(*tools.values()), set.union(*tools.values())
    if len(tools) > 1 and shared:
        yield "Pairs of all tools", [row for row in rows if _pair(row) in shared]
    if len(tools) == 1 or every != shared:
        whole = {tool for tool, pairs in tools.items() if pairs == every}
        yield "All pairs", [row for row in rows if row["tool"] in whole]


def cells(rows: Sequence[Row]) -> list[str]:
    """The mean error of each tool in each cell, and in how many cells a tool has the lowest, of
    those that the first tool registered.

    Args:
        rows: rows with an outcome.
    """
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    groups: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for row in rows:
        cell = groups.setdefault(tuple(row[key] for key in CELL), {})
        cell.setdefault(row["tool"], []).append(row["true_error_mm"])
    lines = [[*(_HEADINGS[key] for key in CELL), *tools, "lowest"]]
    lowest: dict[str, int] = {}
    compared = 0
    for key, found in sorted(groups.items()):
        errors = {tool: sum(values) / len(values) for tool, values in found.items()}
        rivals = tools[0] in errors and len(errors) > 1
        best = min(errors, key=errors.__getitem__) if rivals else ""
        if best:
            compared += 1
            lowest[best] = lowest.get(best, 0) + 1
        numbers = [number(errors[tool]) if tool in errors else "" for tool in tools]
        lines.append([*map(str, key), *numbers, best])
    counts = ", ".join(f"{tool} in {lowest.get(tool, 0)}" for tool in tools)
    first = f"{len(groups)} cells. Of {compared} that {tools[0]} and another tool registered, "
    first += f"the lowest error has: {counts}."
    return [first, "", *table(lines), ""]


def _pair(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in KEYS[:-1])


def means(rows: Sequence[Row], keys: Sequence[str]) -> list[list[str]]:
    """Mean errors of each tool, a line for each group; the first line is the header.

    Args:
        rows: rows with an outcome.
        keys: what a group has in common.
    """
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    lines = [[*(_HEADINGS[key] for key in keys), "pairs", *tools]]
    for group, mine in sorted(groups.items()):
        cells = [
            number(average(row["true_error_mm"] for row in mine if row["tool"] == tool))
            for tool in tools
        ]
        lines.append([*(str(value) for value in group), str(len({*map(_pair, mine)})), *cells])
    lines.append(["wall time, s", *[""] * len(keys), *(_seconds(rows, tool) for tool in tools)])
    return lines


def _seconds(rows: Sequence[Row], tool: str) -> str:
    return number(average(row["wall_s"] for row in rows if row["tool"] == tool))


_HEADINGS = {
    "role": "thick slices",
    "voxel_mm": "voxels, mm",
    "contrast": "contrast",
    "thickness_mm": "thickness, mm",
    "axis": "axis",
    "noise_pct": "noise, %",
}
