"""Pages of registrations: seconds, megabytes and screenshots.

    python -m scripts.bench report run --work DIR

Each registration runs with and without its report, alternately; the least time of each counts. The
screenshots need playwright and Chromium. Only images whose terms allow derivatives are shown: the
demo's heads, the templates, and images under Apache-2.0 and CC0.
"""

from __future__ import annotations

import csv
import dataclasses
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from scripts.bench import pages
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option, required
from scripts.bench.paths import image_path
from scripts.bench.process import run_process
from scripts.bench.store import RESULTS_FILE, Row, Store, read
from stn3d.demo.heads import demo_pair

PREAMBLE = """\
# Reports

`report.html` and `report.png` beside every registration: how long they take, how large they are,
and how they look. The times are those of the whole process with the report, minus those with
`--no-report`, the least of several runs of each. The report is made while the other files are
compressed, so the wall time grows by less than the CPU time.
"""
CASES = {
    "T1 <- T1": "Colin27 to the MNI ICBM152 template, 1 mm",
    "CT <- MR": "MR head template to a CT head template, 2 mm",
    "failed": "abdomen, MR slab of one person to CT of another, 3 mm",
}
PICTURES = {"T1 <- T1": "t1_t1.jpg", "CT <- MR": "ct_mr.jpg", "failed": "failed.jpg"}
WEEKS = (
    "21_notoperated", "23_notoperated", "25_notoperated", "25_operated", "27_operated",
    "29_operated", "31_operated", "33_operated",
)  # fmt: skip
INDEX = """\
## Index of 20 pairs

Fetal brain templates of neighbouring weeks with 8 tissues (Fidon et al. 2021, CC0), the abdomen and
the head templates in both directions: `stn3d cohort pairs.csv --out DIR --preset fast`.

![Index of 20 pairs](index.jpg)
"""
_STN3D = (sys.executable, "-m", "stn3d")
_FLAGS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox")


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    work: Path = required("folder for the images and the registrations")
    repeats: int = option(3, "runs of each registration with, and as many without, a report")


def run(options: Options) -> None:
    """Register, measure and take the screenshots, then report."""
    pairs = _pairs(options.work)
    head = {"machine": machine(), "threads": options.threads}
    store = Store(options.out, "report", ("case",), head, command=command_line("report", options))
    wanted = [{"case": name} for name in pairs]
    store.measure(wanted, lambda row: _measured(pairs[row["case"]], options))
    for pair in pairs.values():
        _screenshot(pair.out / "report.html", options.out / f"{pair.out.name}.jpg")
    table = _cohort_table(options.work / "pairs.csv")
    cohort = ["cohort", str(table), "--out", str(options.work / "cohort"), "--preset", "fast"]
    run_process([*_STN3D, *cohort, "--workers", "1"], allowed=(0, 3))
    _screenshot(options.work / "cohort" / "index.html", options.out / "index.jpg")
    report(options.out)


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder / RESULTS_FILE)
    rows = [
        [
            "",
            "registration",
            "report: wall time, s",
            "CPU time, s",
            "report.html, MB",
            "report.png, MB",
        ]
    ]
    for row in results.done:
        rows.append(
            [
                f"{row['case']}: {CASES[row['case']]}",
                f"{row['without_wall_s']:.1f}",
                f"{row['with_wall_s'] - row['without_wall_s']:+.2f}",
                f"{row['with_cpu_s'] - row['without_cpu_s']:+.2f}",
                f"{row['page_mb']:.2f}",
                f"{row['picture_mb']:.2f}",
            ]
        )
    shown = []
    for name, about in CASES.items():
        shown += [f"## {name}", "", f"{about}.", "", f"![{name}]({PICTURES[name]})", ""]
    lines = [PREAMBLE, *pages.table(rows), "", *pages.command(results), *pages.conditions(results)]
    pages.write_page(folder, [*lines, *shown, INDEX])


@dataclass(frozen=True)
class _Pair:
    """A registration to measure: its arguments, and the folder of its results."""

    arguments: Sequence[str]
    out: Path


def _pairs(work: Path) -> dict[str, _Pair]:
    """The pair of each case; the demo's heads are written first."""
    work.mkdir(parents=True, exist_ok=True)
    heads = demo_pair("two", 1.0)
    paths = work / "icbm152.nii.gz", work / "colin27.nii.gz"
    for image, path in zip((heads.fixed, heads.moving), paths, strict=True):
        image.save(path)
    mask = dataclasses.replace(heads.fixed, values=heads.mask)
    mask.save(work / "brain.nii.gz")
    templates = image_path("ct_mr/scct"), image_path("ct_mr/mni152_t1_2mm")
    abdomens = image_path("abdomen/ct"), image_path("abdomen/mr")
    return {
        "T1 <- T1": _Pair(
            [*map(str, paths), "--fixed-mask", str(work / "brain.nii.gz")], work / "t1_t1"
        ),
        "CT <- MR": _Pair([*map(str, templates)], work / "ct_mr"),
        "failed": _Pair([*map(str, abdomens), "--preset", "fast"], work / "failed"),
    }


def _measured(pair: _Pair, options: Options) -> Row:
    """The least times with and without the report, and the sizes of its files."""
    words = [*_STN3D, "register", *pair.arguments, "--out", str(pair.out)]
    words += ["--threads", str(options.threads)]
    found: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
    for _ in range(options.repeats):
        found["without"].append(run_process([*words, "--no-report"], allowed=(0, 3)))
        found["with"].append(run_process(words, allowed=(0, 3)))
    row: dict[str, Any] = {
        f"{key}_{what}": min(one[what] for one in costs)
        for key, costs in found.items()
        for what in ("wall_s", "cpu_s")
    }
    for key, name in (("page_mb", "report.html"), ("picture_mb", "report.png")):
        row[key] = (pair.out / name).stat().st_size / 1e6
    return row


def _cohort_table(path: Path) -> Path:
    """The 20 pairs of the index."""
    atlas = "fetal_atlas/fetal_SB_atlas_GA{}/{}"
    near = list(pairwise(WEEKS))
    near += [(b, a) for a, b in near] + [(WEEKS[0], WEEKS[-1]), (WEEKS[-1], WEEKS[0])]
    rows = [
        [
            f"week {a} to {b}".replace("_", " "),
            *(str(image_path(atlas.format(one, "srr"))) for one in (b, a)),
            *(str(image_path(atlas.format(one, "parcellation"))) for one in (b, a)),
        ]
        for a, b in near
    ]
    for a, b in (("ct", "mr"), ("mr", "ct")):
        images = [str(image_path(f"abdomen/{one}")) for one in (b, a)]
        rows.append([f"abdomen {a.upper()} to {b.upper()}", *images, "", ""])
    for a, b in (("scct", "mni152_t1_2mm"), ("mni152_t1_2mm", "scct")):
        images = [str(image_path(f"ct_mr/{one}")) for one in (b, a)]
        rows.append([f"head {a.partition('_')[0]} to {b.partition('_')[0]}", *images, "", ""])
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "fixed", "moving", "fixed_labels", "moving_labels"])
        writer.writerows(rows)
    return path


def _screenshot(page: Path, path: Path) -> None:
    """A picture of a page as a browser shows it, 1200 pixels wide."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.goto(page.absolute().as_uri())
        if tab.query_selector("#viewer"):
            tab.locator("#viewer").scroll_into_view_if_needed()
            tab.wait_for_selector("#viewer[data-ready=yes]", timeout=90_000)
            tab.wait_for_timeout(500)
        tab.evaluate("window.scrollTo(0, 0)")
        tab.evaluate("[...document.images].forEach(image => (image.loading = 'eager'))")
        tab.wait_for_timeout(300)
        tab.screenshot(path=path, type="jpeg", quality=82, full_page=True)
        browser.close()
