"""The page of the study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean, mean

from scripts.bench.pages import command, conditions, table, write_page
from scripts.bench.store import Row, read

TUNING = frozenset(["1000", "1001", "1006", "1007", "1008", "1009", "1010", "1011"])
THROUGH, DIRECT, GREEDY = "through the template", "direct", "through greedy's template"
ABOUT = """\
Group: a template of the 15 T1 brains of shared/data/brains with the default settings. For pairs of
brains, the labels of one are warped to the other through the template (the inverse of its
transform, then the transform of the first; one interpolation), beside a direct registration with
the default preset. Dice is the mean over labels of at least 100 voxels in both maps, nearest
neighbour, as in the study brains. Sharpness is the root mean square gradient over the standard
deviation of the intensities in the foreground. A template by greedy is built as ANTs' scripts do
(Avants et al. 2010, doi:10.1016/j.neuroimage.2009.09.062): the affine mean on the grid of the first
image, then --greedy-iterations updates by the mean intensity and a quarter of the mean
displacement.

Visits: two visits of one person with multiple sclerosis in three contrasts (Lesjak et al. 2016),
never resampled. The transform from visit 1 to visit 2 through the midpoint of both is compared with
the published affines, over the foreground, beside direct rigid registrations; the published ones
are automatic, so good to about a millimetre. The images are also given in the other order. The same
for the three contrasts of each visit, in the space halfway between all three.

Builds are kept in --work and continued. Direct registrations are measured for --offsets: brain i is
registered to brains i + offset. The default sharpening was chosen with the
tuning brains 1000, 1001, 1006, 1007, 1008, 1009, 1010 and 1011."""


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    lines = ["# Templates", "", *command(results), ABOUT, "", *conditions(results)]
    lines += ["## Pairs of brains", "", *table(_pairs_table(results.rows)), ""]
    lines += ["## Iterations", "", *table(_iterations_table(results.rows)), ""]
    lines += [
        *_volume_lines(results.rows),
        "## Visits and contrasts of one person, mm",
        "",
        *table(_visits_table(results.rows)),
    ]
    write_page(folder, lines)


def _volume_lines(rows: Sequence[Row]) -> list[str]:
    """A sentence on the size of each template."""
    lines = []
    for row in rows:
        if "images_ml" in row:
            own, there = (geometric_mean(row[key]) for key in ("images_ml", "template_ml"))
            lines += [
                f"Labelled volume of the {row['name']}: {min(row['images_ml']):.0f} to "
                f"{max(row['images_ml']):.0f} ml, geometric mean {own:.1f} ml; in the template "
                f"{there:.1f} ml.",
                "",
            ]
    return lines


def _pairs_table(rows: Sequence[Row]) -> list[list[str]]:
    """Mean Dice over the pairs that both tools have."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["kind"] == "pair":
            found.setdefault(row["tool"], {})[row["name"]] = row["dice"]
    head = ["pairs", "number", "Dice through the template", "Dice, other", "difference"]
    lines = [head]
    every = found.get(THROUGH, {})
    if every:
        lines.append(
            ["all that were measured", str(len(every)), f"{mean(every.values()):.4f}", "", ""]
        )
    chosen = (
        ("registered directly", DIRECT, THROUGH, None),
        ("of these, both brains used for tuning", DIRECT, THROUGH, True),
        ("of these, no brain used for tuning", DIRECT, THROUGH, False),
        ("through a template by greedy", GREEDY, THROUGH, None),
        ("of these, no brain used for tuning", GREEDY, THROUGH, False),
    )
    for name, tool, through, tuned in chosen:
        both = [
            pair
            for pair in found.get(tool, {})
            if pair in found.get(through, {}) and tuned in (None, _is_tuned(pair))
        ]
        if both:
            a, b = (mean(found[one][pair] for pair in both) for one in (through, tool))
            lines.append([name, str(len(both)), f"{a:.4f}", f"{b:.4f}", f"{a - b:+.4f}"])
    return lines


def _is_tuned(pair: str) -> bool | str:
    """Whether both brains of a pair were used for tuning; "mixed" if one was."""
    used = [name in TUNING for name in pair.split(" <- ")]
    return used[0] if used[0] == used[1] else "mixed"


def _iterations_table(rows: Sequence[Row]) -> list[list[str]]:
    keys = ("mean_displacement_mm", "relative_change", "sharpness", "sharpness_of_images")
    lines = [["template", "iteration", "mean displacement, mm", "change", "sharpness", "of images"]]
    for row in rows:
        if row["kind"] == "template":
            for number, one in enumerate(row["iterations"]):
                cells = [f"{one[key]:.3f}" if key in one else "" for key in keys]
                lines.append([row["name"], str(number), *cells])
    return lines


def _visits_table(rows: Sequence[Row]) -> list[list[str]]:
    tools = ("headers", "direct", "direct, other direction", "midpoint")
    lines = [["images", *tools, "direct to midpoint", "equal in the other order"]]
    visits = {(row["name"], row["tool"]): row for row in rows if row["kind"] == "visits"}
    for name in dict.fromkeys(name for name, _ in visits):
        each = [visits.get((name, tool), {}) for tool in tools]
        away = [f"{one['to_midpoint_mm']:.3f}" for one in each if "to_midpoint_mm" in one]
        cells = [f"{one['error_mm']:.3f}" if one else "" for one in each]
        equal = {True: "yes", False: "no", None: ""}[each[-1].get("swapped_equal")]
        lines.append([name, *cells, ", ".join(away), equal])
    return lines
