"""The expected error and the quality check of deformations, on pairs with known truth.

    python -m scripts.bench uncertainty run --work DIR [--first 0 --count 400]

Every case is registered, well or badly; cues and true errors at points are kept in --work. Then the
models of `stn3d.registration.uncertainty_model` are fitted to them, and each kind of images is
predicted by models that were fitted to all other kinds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.bench import pages
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option, required
from scripts.bench.store import Row, Store, read
from scripts.bench.uncertainty_cases import FULL_RESOLUTION, ONLY_LIVERS, Case, draw
from scripts.bench.uncertainty_fit import (
    as_text,
    fit,
    load_samples,
    usable,
    with_expectations,
)
from scripts.bench.uncertainty_registered import registered
from stn3d import Affine
from stn3d.grid import apply_matrix
from stn3d.preprocessing.pair import Pair
from stn3d.registration.inputs import read_pair
from stn3d.registration.quality import assess_quality
from stn3d.registration.quality_measures import QualityMeasures
from stn3d.registration.uncertainty import search_measures
from stn3d.registration.uncertainty_cues import FINE, Cues, coarse_cues, fine_cues, shown
from stn3d.sampler import sample
from stn3d.transforms import split_linear
from stn3d.transforms.fit import fit_linear
from stn3d.warp import resample_image

KEYS = ("number",)
NUMBERS = (
    *range(160),
    *range(ONLY_LIVERS, ONLY_LIVERS + 24),
    *range(160, 400),
    *range(FULL_RESOLUTION, FULL_RESOLUTION + 8),
)
HELD_OUT = range(203, ONLY_LIVERS)  # measured after the limits were chosen
POINTS, BODY_POINTS = 2500, 500
FAILED_MM = FAILED_UNITS = 5.0
FINE_UNITS = 2.0
LINEAR = "no deformation"  # way of registration
STATUSES = ("good", "check", "failed")
GROUPS = ("up to 2 units", "more, and right", "wrong")
ABOUT = """\
Eight kinds of images with a known truth: T1 brains, T1 brains deformed by the result of registering
two people and a random deformation after it, MR contrasts of one person, fetal brains, mouse
brains, lungs, CT of the body, and lungs and bodies that slide; and four pairs of breathing livers
with experts' landmarks. The moving image has another gamma, a bias field and noise of 2, 5 or 10 %.
Each case is registered as it should be (4 of 14) or with one fault: no deformable stage, a metric
that does not fit the contrast, too weak or too strong smoothing, one level alone, no search for
displacements of up to 34 units, or a wrong start of the deformable stage. One case of 20 shows
unrelated anatomy. Voxels are
2 mm for a head, and the preset is `fast`.

Every kind is predicted by models that were fitted to all *other* kinds. Errors are means over
points of the body (tissue and what it encloses; the air around it has no truth that matters), in
length units (1 mm for a head). Coverage is the fraction of the points whose
true error is below the 90 % bound, with the lowest value of a case beside it. Rank: Spearman's
correlation within a case. Order: how well leaving out the points with the largest expected errors
does (1: as by the true errors, 0: as at random)."""


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    work: Path = required("folder for the cues at points, which are about 100 KB a case")
    first: int = option(0, "first case")
    count: int = option(NUMBERS[-1] + 1, "number of cases")


def run(options: Options) -> None:
    """Measure the cases that are not measured yet, fit the models, then report."""
    torch.set_num_threads(options.threads)
    text = command_line("uncertainty", replace(options, first=0, count=400))
    store = Store(options.out, "uncertainty", KEYS, {"machine": machine()}, command=text)
    chosen = range(options.first, options.first + options.count)
    wanted = [{"number": n} for n in NUMBERS if n in chosen]
    store.measure(wanted, lambda row: measured(row["number"], options.work))
    if all(store.has({"number": n}) for n in NUMBERS):
        fit_and_report(options.out, options.work, store)


def fit_and_report(folder: Path, work: Path, store: Store) -> None:
    """Fit the models, print them, and report what those without a kind of images say about it."""
    samples = load_samples(work / "samples")
    for grid, name in (("fine", "FINE_MODEL"), ("coarse", "COARSE_MODEL")):
        print(as_text(fit(usable(samples, grid), grid), name))
    store.replace(with_expectations(store.rows, work / "samples"))
    report(folder)


def measured(number: int, work: Path) -> Row:
    """Register a case; its cues at points go into a file."""
    case = draw(number, work)
    row: Row = {"kind": case.kind, "way": case.way}
    found = registered(case, number, work)
    row |= found.about
    if found.transform is None:
        return row
    fixed, moving = ((v[0, 0], grid) for v, grid in (case.fixed, case.moving))
    transform, settings = found.transform, found.settings
    pair = read_pair(fixed, moving).prepared(settings, torch.device("cpu"))
    searched = asdict(search_measures(pair, transform, settings))
    row |= {"unit_mm": pair.unit_mm, "metric": found.metrics[0], "searched": searched}
    points, true = _known(case, number, pair)
    kept: dict[str, Any] = {}
    if true is not None:
        linear = split_linear(transform)[1] or Affine.identity(3)
        best = fit_linear("affine", points, true)
        row["affine_mm"] = float((linear(points) - best(points)).norm(dim=-1).mean())
        ways = {"error": transform, "linear": linear, "initial": Affine.identity(3)}
        for name, way in ways.items():
            errors_mm = (way(points) - true).norm(dim=-1)
            row[f"{name}_mm"] = float(errors_mm.mean())
            kept[name] = (errors_mm / pair.unit_mm).float().numpy()
    both = settings.discrete, settings.deformable
    cues_of = {
        "coarse": lambda: coarse_cues(pair, transform, settings.discrete),
        "fine": lambda: fine_cues(pair, transform, *both),
    }
    for name, make in cues_of.items():
        begin = time.perf_counter()
        cues = make()
        row[f"{name}_s"] = round(time.perf_counter() - begin, 2)
        kept[f"{name}_names"] = np.array([*cues.values, "seen"])
        kept[name] = _at(cues, points)
        index = cues.body[0, 0].nonzero()
        step = 1 + len(index) // BODY_POINTS
        places = apply_matrix(cues.grid.world_from_index, index[::step].double())
        kept[f"{name}_body"] = _at(cues, places)
    folder = work / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{number:04d}.npz", row=json.dumps(row), **kept)
    return row


def _known(case: Case, number: int, pair: Pair) -> tuple[Tensor, Tensor | None]:
    """Points of the body and their true counterparts that lie within the moving image."""
    points = case.points_mm
    if points is None:
        level, grid = pair.first.fixed.at(FINE * pair.unit_mm), case.fixed[1]
        index = (resample_image(shown(level), level.grid, grid)[0, 0] > 0.5).nonzero().double()
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(number))
        points = apply_matrix(grid.world_from_index, index[order[:POINTS]])
    if case.truth is None:
        return points, None
    true, other = case.truth(points), case.moving[1]
    at = apply_matrix(other.index_from_world, true)
    held = ((at > -0.5) & (at < torch.tensor(other.shape) - 0.5)).all(dim=-1)
    return points[held], true[held]


def _at(cues: Cues, points: Tensor) -> Any:
    """``(C, N)`` cues at points, the last one whether both images show them."""
    values = torch.cat([*cues.values.values(), cues.seen.float()], dim=1)
    index = apply_matrix(cues.grid.index_from_world, points).float()
    return sample(values.float(), index[None])[0].numpy()


# -- the page -------------------------------------------------------------------------------------


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    rows = [row for row in results.rows if row.get("left_out")]
    lines = ["# Expected error", "", *pages.command(results), ABOUT, "", *pages.conditions(results)]
    if missing := set(NUMBERS).difference(row["number"] for row in results.rows):
        lines += [f"{len(missing)} of {len(NUMBERS)} cases have not been measured yet.", ""]
    for grid, title in (
        ("fine", "The map"),
        ("coarse", "The coarse estimate of the quality check"),
    ):
        lines += [f"## {title}", "", *pages.table(calibration(rows, grid, "kind")), ""]
        lines += [*pages.table(calibration(rows, grid, "way")), ""]
    lines += ["## The quality check", "", *DEFINITIONS, ""]
    for held, title in enumerate(("Cases that the limits were chosen with", "Held-out cases")):
        part = [row for row in rows if (row["number"] in HELD_OUT) == bool(held)]
        lines += [f"### {title}", "", *pages.table(statuses(part, "coarse")), ""]
        if mapped := [row for row in part if "fine" in row["left_out"]]:
            lines += [f"With `--uncertainty`, measured in {len(mapped)} of these cases:", ""]
            lines += [*pages.table(statuses(mapped, "fine")), ""]
    lines += ["### Called good, by kind", "", *pages.table(good_by_kind(rows)), ""]
    pages.write_page(folder, lines)


DEFINITIONS = [
    "Wrong: unrelated images; a mean error above 5 mm or 5 length units, whichever is less; or a",
    "mean error above that before the registration. Of a result without a deformation the error is",
    "its distance from the affine transform that fits the truth best: differences of shape are no",
    "fault of it. Before: the status without the expected error.",
]


def calibration(rows: Sequence[Row], grid: str, by: str) -> list[list[str]]:
    """How models that do not know a kind predict it; the first line is the header."""
    head = [by, "cases", "true error", "expected", "coverage", "lowest of a case", "rank", "order"]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        found = row["left_out"].get(grid) or {}
        if found.get("coverage") is not None:
            groups.setdefault(row[by], []).append(found)
    groups["all"] = [one for group in groups.values() for one in group]
    table = [head]
    for name, group in groups.items():
        means = [_mean(group, key) for key in ("error", "expected", "coverage", "rank")]
        lowest, order = min(one["coverage"] for one in group), _mean(group, "sparsification")
        cells = [f"{means[0]:.2f}", f"{means[1]:.2f}", f"{means[2]:.2f}", f"{lowest:.2f}"]
        table.append([name, f"{len(group)}", *cells, f"{means[3]:.2f}", f"{order:.2f}"])
    return table


def _mean(group: Sequence[Row], key: str) -> float:
    known = [one[key] for one in group if one[key] is not None]
    return sum(known) / max(len(known), 1)


def is_wrong(row: Row) -> bool:
    """See `DEFINITIONS`."""
    if "error_mm" not in row:
        return True
    limit = min(FAILED_MM, FAILED_UNITS * row["unit_mm"])
    return judged_mm(row) > limit or row["error_mm"] > row["initial_mm"]


def judged_mm(row: Row) -> float:
    """The error that the status should show, see `DEFINITIONS`."""
    return float(row["affine_mm" if row["way"] == LINEAR else "error_mm"])


def group_of(row: Row) -> str:
    """The group of a case by its error, one of `GROUPS`."""
    if is_wrong(row):
        return "wrong"
    is_fine = judged_mm(row) <= FINE_UNITS * row["unit_mm"]
    return "up to 2 units" if is_fine else "more, and right"


def statuses(rows: Sequence[Row], grid: str) -> list[list[str]]:
    """Status before and now against the error; the first line is the header."""
    table = [["error", "cases", *(f"{s}, {when}" for when in ("before", "now") for s in STATUSES)]]
    for name in GROUPS:
        group = [row for row in rows if group_of(row) == name]
        found = [[status_of(row, known) for row in group] for known in (None, grid)]
        cells = [f"{one.count(status)}" for one in found for status in STATUSES]
        table.append([name, f"{len(group)}", *cells])
    return table


def good_by_kind(rows: Sequence[Row]) -> list[list[str]]:
    """How many cases of each kind and group are called good, before -> now; the first line is the
    header."""
    table = [["kind", *(f"{name}{what}" for name in GROUPS for what in ("", ", good"))]]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        cells = [kind]
        for name in GROUPS:
            group = [row for row in rows if row["kind"] == kind and group_of(row) == name]
            good = [sum(status_of(row, g) == "good" for row in group) for g in (None, "coarse")]
            cells += [f"{len(group)}", f"{good[0]} -> {good[1]}"]
        table.append(cells)
    return table


def status_of(row: Row, grid: str | None) -> str:
    """The status by the current limits, without the expected error or with that of a model that
    does not know this kind of images; linear results have none."""
    known = row["left_out"].get(grid) if grid and row["way"] != LINEAR else None
    body = (known or {}).get("body")
    names = {one.name for one in fields(QualityMeasures)}
    measures = {key: v for key, v in row["quality"]["measures"].items() if key in names}
    measures |= row["searched"] if grid else dict.fromkeys(row["searched"])
    measures |= {"expected_error_units": body, "expected_error_mm": body and body * row["unit_mm"]}
    return assess_quality(QualityMeasures(**measures)).status
