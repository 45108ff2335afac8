"""Visits and contrasts of one person: the midpoint beside direct registrations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

import stn3d
from scripts.bench.paths import SHARED
from scripts.bench.store import Row
from stn3d.choices import MetricName
from stn3d.io import read_image
from stn3d.metrics import foreground
from stn3d.template import TemplateSettings, build_within_subject
from stn3d.template.linear_mean import product
from stn3d.transforms import Affine, Linear, Transform

CONTRASTS = ("FLAIR", "T1W", "T2W")
VISITS = SHARED / "data" / "ms_longitudinal" / "patient01"


def visit_rows(work: Path, threads: int) -> Iterator[Row]:
    """Errors to the published affines: between visits, and between contrasts of each visit."""
    for contrast in CONTRASTS:
        yield from _compared(work, threads, [(1, contrast), (2, contrast)], "lncc")
    for visit in (1, 2):
        yield from _compared(work, threads, [(visit, contrast) for contrast in CONTRASTS], "nmi")


def _compared(
    work: Path, threads: int, images: Sequence[tuple[int, str]], metric: MetricName
) -> Iterator[Row]:
    """Errors of all pairs of images, which are visits and contrasts: by the headers, direct in both
    directions, and through the midpoint of all of them."""
    settings = TemplateSettings(iterations=1, threads=threads, metric=metric)
    paths = [VISITS / f"study{visit}_{contrast}.nii.gz" for visit, contrast in images]
    place = work / "_".join(f"{visit}{contrast}" for visit, contrast in images)
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
            "direct": _rigid(pair, paths[j], threads, metric),
            "direct, other direction": _rigid(paths[j], pair, threads, metric).inverse(),
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
