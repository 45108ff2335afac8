"""Templates of 15 brains and of the visits of one person.

    python -m scripts.bench template run --work DIR

Group: a template of the 15 T1 brains of shared/data/brains with the default settings. For pairs of
brains, the labels of one are warped to the other through the template (the inverse of its
transform, then the transform of the first; one interpolation), beside a direct registration with
the default preset. Dice is the mean over labels of at least 100 voxels in both maps, nearest
neighbour, as in the study brains. Sharpness is the root mean square gradient over the standard
deviation of the intensities in the foreground.

Visits: two visits of one person with multiple sclerosis in three contrasts (Lesjak et al. 2016),
never resampled. The transform from visit 1 to visit 2 through the midpoint of both is compared with
the published affines, over the foreground, beside direct rigid registrations; the published ones
are automatic, so good to about a millimetre. The images are also given in the other order. The same
for the three contrasts of each visit, in the space halfway between all three.

Builds are kept in --work and continued. Direct registrations are measured for --offsets: brain i is
registered to brains i + offset. Sharpening and its default were chosen with the eight brains
that are named as tuning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import stn3d
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option, required
from scripts.bench.pages import command, conditions, table, write_page
from scripts.bench.paths import SHARED, image_path
from scripts.bench.store import Row, Store, read
from stn3d.choices import MetricName
from stn3d.grid import apply_matrix
from stn3d.io import Image, read_image, read_labels
from stn3d.metrics import dice, foreground, select_labels
from stn3d.sampler import sample
from stn3d.template import Template, TemplateSettings, build, build_within_subject
from stn3d.template.linear_mean import product
from stn3d.transforms import Affine, Linear, Transform

BRAINS = "1000 1001 1002 1006 1007 1008 1009 1010 1011 1012 1013 1014 1015 1017 1036"
TUNING = frozenset(["1000", "1001", "1006", "1007", "1008", "1009", "1010", "1011"])
CONTRASTS = ("FLAIR", "T1W", "T2W")
VISITS = SHARED / "data" / "ms_longitudinal" / "patient01"
KEYS = ("kind", "name", "tool")
MIN_VOXELS = 100
THROUGH, DIRECT = "through the template", "direct"


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    work: Path = required("folder of the builds")
    brains: str = option(BRAINS, "brains of the template")
    iterations: int = option(4, "iterations of the group template")
    offsets: str = option("1 4", "offsets of the pairs that are registered directly")


def run(options: Options) -> None:
    """Measure what is not measured yet, then report."""
    shared: Row = {"machine": machine(), "threads": options.threads}
    store = Store(options.out, "template", KEYS, shared, command=command_line("template", options))
    names = options.brains.split()
    group = _built(options.work / "group", names, options.iterations, options.threads)
    store.add(_of_template("template", f"{len(names)} brains", group))
    _measure_pairs(store, group.folder, names, THROUGH)
    offsets = [int(offset) for offset in options.offsets.split()]
    pairs = [
        (fixed, names[(n + offset) % len(names)])
        for offset in offsets
        for n, fixed in enumerate(names)
    ]
    wanted = [{"kind": "pair", "name": f"{f} <- {m}", "tool": DIRECT} for f, m in pairs]
    store.measure(wanted, lambda row: _direct(row, options.threads))
    for row in _visits(options):
        store.add(row)
    report(options.out)


def _built(folder: Path, names: Sequence[str], iterations: int, threads: int) -> Template:
    settings = TemplateSettings(iterations=iterations, threads=threads)
    images = [image_path(f"brains/{name}_t1") for name in names]
    return build(images, folder, settings=settings, progress=True)


def _of_template(kind: str, name: str, template: Template) -> Row:
    """Metrics of a build."""
    last = template.metrics["iterations"][-1]
    return {
        "kind": kind,
        "name": name,
        "tool": "stn3d",
        "iterations": template.metrics["iterations"],
        "sharpness": last["sharpness"],
        "sharpness_of_images": last["sharpness_of_images"],
        "statuses": [one["status"] for one in template.metrics["images"]],
        "timings_s": template.metrics["timings_s"],
    }


# -- pairs through a template ---------------------------------------------------------------------


def _measure_pairs(store: Store, folder: Path, names: Sequence[str], tool: str) -> None:
    """Dice of all ordered pairs through a template that are not measured yet."""
    for fixed in names:
        rows = [
            {"kind": "pair", "name": f"{fixed} <- {moving}", "tool": tool}
            for moving in names
            if moving != fixed
        ]
        if all(store.has(row) for row in rows):
            continue
        back = stn3d.read_transform(folder / f"{fixed}_t1" / "inverse.h5")
        labels = _labels(fixed)
        points = _mapped(back, labels.grid.points_mm().reshape(-1, 3).float())
        for row in rows:
            if not store.has(row):
                moving = row["name"].split()[-1]
                ahead = stn3d.read_transform(folder / f"{moving}_t1" / "transform.h5")
                value = dice_at(labels, _labels(moving), _mapped(ahead, points))
                store.add(row | {"dice": value})


def _mapped(transform: Transform, points: Tensor) -> Tensor:
    """Points ``(N, 3)`` mapped in parts."""
    return torch.cat([transform(part) for part in points.split(1 << 20)])


def _labels(name: str) -> Image:
    return read_labels(image_path(f"brains/{name}_labels"))


def dice_at(fixed: Image, moving: Image, points_mm: Tensor) -> float:
    """Mean Dice of the labels.

    Args:
        fixed: label map.
        moving: the other label map.
        points_mm: ``(N, 3)`` where each voxel of the fixed map is in the moving one.
    """
    index = apply_matrix(moving.grid.index_from_world, points_mm)[None]
    moved = sample(moving.values.float(), index, "nearest").int().reshape(fixed.values.shape)
    chosen = select_labels(fixed.values, moving.values, None, MIN_VOXELS)
    return mean(dice(fixed.values, moved, chosen.labels).values())


def _direct(row: Row, threads: int) -> Row:
    """A direct registration with the default preset."""
    fixed, moving = (
        stn3d.RegistrationImage(
            image_path(f"brains/{name}_t1"), labels=image_path(f"brains/{name}_labels")
        )
        for name in row["name"].split(" <- ")
    )
    after = stn3d.register(fixed, moving, threads=threads).metrics["after"]
    return {"dice": after["dice"]}


# -- visits ---------------------------------------------------------------------------------------


def _visits(options: Options) -> Iterator[Row]:
    """Errors to the published affines: between visits, and between contrasts of each visit."""
    for contrast in CONTRASTS:
        yield from _compared(options, [(1, contrast), (2, contrast)], "lncc")
    for visit in (1, 2):
        yield from _compared(options, [(visit, contrast) for contrast in CONTRASTS], "nmi")


def _compared(
    options: Options, images: Sequence[tuple[int, str]], metric: MetricName
) -> Iterator[Row]:
    """Errors of all pairs of images, which are visits and contrasts: by the headers, direct in both
    directions, and through the midpoint of all of them."""
    settings = TemplateSettings(iterations=1, threads=options.threads, metric=metric)
    paths = [VISITS / f"study{visit}_{contrast}.nii.gz" for visit, contrast in images]
    place = options.work / "_".join(f"{visit}{contrast}" for visit, contrast in images)
    found = build_within_subject(paths, place, settings=settings)
    again = build_within_subject(paths[::-1], Path(f"{place}_reversed"), settings=settings)
    one, other = ((t.folder / "template.nii.gz").read_bytes() for t in (found, again))
    poses = [_linear(found.transform(name)) for name in found.names]
    published = [_from_common(*image) for image in images]
    for i, j in combinations(range(len(images)), 2):
        fixed = read_image(paths[i])
        points = fixed.grid.points_mm()[foreground(fixed.values)][::97]
        pair, truth = paths[i], product(_inverse(published[i]), published[j])
        tools: dict[str, Transform] = {
            "headers": Affine.identity(3),
            "direct": _rigid(pair, paths[j], options.threads, metric),
            "direct, other direction": _rigid(paths[j], pair, options.threads, metric).inverse(),
            "midpoint": product(_inverse(poses[i]), poses[j]),
        }
        for tool, transform in tools.items():
            row: Row = {"kind": "visits", "name": _name(images[i], images[j]), "tool": tool}
            row["error_mm"] = _distance_mm(transform, truth, points)
            if tool == "midpoint":
                row["swapped_equal"] = one == other
            if tool.startswith("direct"):
                row["to_midpoint_mm"] = _distance_mm(transform, tools["midpoint"], points)
            yield row


def _name(one: tuple[int, str], other: tuple[int, str]) -> str:
    if one[0] != other[0]:
        return f"{one[1]}: visit {one[0]} to {other[0]}"
    return f"visit {one[0]}: {one[1]} to {other[1]}"


def _rigid(fixed: Path, moving: Path, threads: int, metric: MetricName) -> Transform:
    return stn3d.register(fixed, moving, kind="rigid", metric=metric, threads=threads).transform


def _linear(transform: Transform) -> Linear:
    assert isinstance(transform, Linear)
    return transform


def _distance_mm(one: Transform, other: Transform, points: Tensor) -> float:
    return float((one(points) - other(points)).norm(dim=-1).mean())


def _inverse(transform: Linear) -> Affine:
    return Affine.from_matrix(torch.linalg.inv(transform.matrix))


def _from_common(visit: int, contrast: str) -> Affine:
    """Published: points of the common space to points of an image."""
    names = [f"study{visit}_FLAIR_to_common_space"]
    names += [f"study{visit}_{contrast}_intrastudy_to_FLAIR"] if contrast != "FLAIR" else []
    whole = Affine.identity(3)
    for name in names:
        whole = product(whole, _linear(stn3d.read_transform(VISITS / f"{name}.txt")))
    return whole


# -- the page -------------------------------------------------------------------------------------


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    about = (__doc__ or "").split("\n\n")
    text = [line for paragraph in about[2:] for line in (paragraph.strip(), "")]
    lines = ["# Templates", "", *command(results), *text, *conditions(results)]
    lines += ["## Pairs of brains", "", *table(_pairs_table(results.rows)), ""]
    lines += ["## Iterations", "", *table(_iterations_table(results.rows)), ""]
    lines += ["## Visits and contrasts of one person, mm", "", *table(_visits_table(results.rows))]
    write_page(folder, lines)


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
