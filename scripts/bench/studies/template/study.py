"""The group template: Dice of pairs through it and direct, its size and its sharpness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import stn3d
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line, option, required
from scripts.bench.paths import image_path
from scripts.bench.store import Row, Store
from scripts.bench.studies.template.greedy import greedy_template
from scripts.bench.studies.template.page import DIRECT, GREEDY, THROUGH, report
from scripts.bench.studies.template.visits import visit_rows
from stn3d.grid import apply_matrix
from stn3d.io import Image, read_labels
from stn3d.metrics import dice, select_labels
from stn3d.sampler import sample
from stn3d.template import Template, TemplateSettings, build
from stn3d.transforms import Transform
from stn3d.warp import jacobian_determinant

BRAINS = "1000 1001 1002 1006 1007 1008 1009 1010 1011 1012 1013 1014 1015 1017 1036"
KEYS = ("kind", "name", "tool")
MIN_VOXELS = 100


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    work: Path = required("folder of the builds")
    brains: str = option(BRAINS, "brains of the template")
    iterations: int = option(4, "iterations of the group template")
    offsets: str = option("1 4", "offsets of the pairs that are registered directly")
    greedy_iterations: int = option(2, "iterations of the template by greedy; 0 for no such one")


def run(options: Options) -> None:
    """Measure what is not measured yet, then report."""
    shared: Row = {"machine": machine(), "threads": options.threads}
    store = Store(options.out, "template", KEYS, shared, command=command_line("template", options))
    names = options.brains.split()
    group = _built(options.work / "group", names, options.iterations, options.threads)
    row = _of_template("template", f"{len(names)} brains", group)
    store.measure([row], lambda _: _volumes_ml(group, names))
    _measure_pairs(store, group.folder, names, THROUGH)
    if options.greedy_iterations:
        images = [image_path(f"brains/{name}_t1") for name in names]
        given = options.work / "greedy", options.greedy_iterations, options.threads
        _measure_pairs(store, greedy_template(images, *given), names, GREEDY)
    offsets = [int(offset) for offset in options.offsets.split()]
    pairs = [
        (fixed, names[(n + offset) % len(names)])
        for offset in offsets
        for n, fixed in enumerate(names)
    ]
    wanted = [{"kind": "pair", "name": f"{f} <- {m}", "tool": DIRECT} for f, m in pairs]
    store.measure(wanted, lambda row: _direct(row, options.threads))
    for row in visit_rows(options.work, options.threads):
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


def _volumes_ml(template: Template, names: Sequence[str]) -> Row:
    """Volume of the labels in each image, and of the same region in the template."""
    own, there = [], []
    for name in names:
        labels = _labels(name)
        voxel_ml = abs(float(torch.linalg.det(labels.grid.world_from_index))) / 1000
        inside = labels.values[0, 0] > 0
        change = jacobian_determinant(template.inverse(f"{name}_t1"), labels.grid)
        own.append(float(inside.sum()) * voxel_ml)
        there.append(float(change[inside].double().sum()) * voxel_ml)
    return {"images_ml": own, "template_ml": there}


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
