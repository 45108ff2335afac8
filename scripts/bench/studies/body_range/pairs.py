"""The pairs of each kind, made from the shared data."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.bench import paths
from scripts.bench.paths import existing
from scripts.bench.studies import bodies, sliding, sliding_body
from scripts.bench.written_pairs import LUNGS, Floats, LabelledImage, Picture, load
from stn3d import Grid, Rigid, Transform


@dataclass(frozen=True, eq=False)
class NamedPair:
    """A pair with its name and, where it is known, its true transform."""

    name: str
    fixed: LabelledImage | Picture
    moving: LabelledImage | Picture
    truth: Transform | None = None


MICE = ((1, 2), (2, 3), (3, 4), (4, 1))
WEEKS = (("25_operated", "27_operated"), ("31_operated", "29_operated"))
DISTANT_WEEKS = (("21_notoperated", "33_operated"), ("33_operated", "23_notoperated"))
CORDS = {
    "T1": ("t1/t1w", "t1/t1w_seg-manual"),
    "T2": ("t2/t2", "t2/t2_seg-manual"),
    "MT off": ("mt/mt0", "mt/mt0_seg"),
    "MT on": ("mt/mt1", "mt/mt1_seg"),
    "T2*": ("t2s/t2s", "t2s/t2s_seg"),
}
CORD_PAIRS = (("T1", "T2"), ("T2", "T1"), ("MT on", "MT off"), ("MT on", "T2*"), ("T2", "MT on"))
STAINS = {"HE": "He", "CD31": "CD31-3", "Cc10": "Cc10-5"}
TEMPLATES = (
    *(("T1", "PET"), ("PET", "T1"), ("T1", "SPECT"), ("T1", "T2"), ("T2", "EPI"), ("PD", "T1")),
)
LIVERS = {"dataset18": ("cyc_1_10", "cyc_3_10"), "dataset23": ("cyc_1_4", "cyc_5_4")}
_BRAIN = 0.5  # probability
_OVERLAP_MM = 120.0
_TURN_RAD, _SHIFT_MM = 0.25, 30.0  # of partial overlap and of templates, along each axis


def mice() -> Iterator[NamedPair]:
    """Some of the ordered pairs of four mice."""
    for fixed, moving in MICE:
        yield NamedPair(f"{fixed} <- {moving}", mouse(fixed), mouse(moving))


def mouse(number: int) -> LabelledImage:
    """The brain of a mouse with its regions."""
    name = f"FVB_NCrl_in_vivo_{number}"
    values, affine = load(f"mouse_brains/template/{name}")
    return LabelledImage(values, affine, load(f"mouse_brains/label/{name}")[0])


def fetuses(weeks: Sequence[tuple[str, str]]) -> Iterator[NamedPair]:
    """Average brains of two gestational ages."""
    for fixed, moving in weeks:
        name = f"{fixed[:2]} <- {moving[:2]} weeks"
        yield NamedPair(name, fetus(fixed), fetus(moving))


def fetus(week: str) -> LabelledImage:
    """An average fetal brain with tissues and landmarks, without what is around it."""
    folder = f"fetal_atlas/fetal_SB_atlas_GA{week}"
    values, affine = load(f"{folder}/srr")
    labels, marks = (load(f"{folder}/{name}")[0] for name in ("parcellation", "lmks"))
    codes = np.round(marks).astype(int)
    voxels = [np.argwhere(codes == code).mean(0) for code in np.unique(codes[codes > 0])]
    return LabelledImage(values, affine, labels, in_mm(np.array(voxels), affine))


def cords() -> Iterator[NamedPair]:
    """Scans of one spinal cord."""
    images = {}
    for name, (image, cord) in CORDS.items():
        values, affine = load(f"cord/{image}")
        images[name] = LabelledImage(values, affine, load(f"cord/{cord}")[0])
    for fixed, moving in CORD_PAIRS:
        yield NamedPair(f"{fixed} <- {moving}", images[fixed], images[moving])


def sections() -> Iterator[NamedPair]:
    """Every ordered pair of three stained sections."""
    images = {}
    for stain, part in STAINS.items():
        path = data_path(f"histology_lung/29-041-Izd2-w35-{part}-les3.jpg")
        rows = read_rows(path.with_suffix(".csv"))
        images[stain] = Picture(path, numbers(rows, ("x", "y")))
    for fixed, moving in permutations(images, 2):
        yield NamedPair(f"{fixed} <- {moving}", images[fixed], images[moving])


def hands() -> Iterator[NamedPair]:
    """Both directions of two radiographs of hands."""
    rows = read_rows(data_path("fair/hands_landmarks.csv"))
    images = {
        role: Picture(
            data_path(f"fair/hands-{file}.jpg"), numbers(rows, (f"{role}_x", f"{role}_y"))
        )
        for role, file in (("fixed", "R"), ("moving", "T"))
    }
    yield NamedPair("R <- T", images["fixed"], images["moving"])
    yield NamedPair("T <- R", images["moving"], images["fixed"])


def halves() -> Iterator[NamedPair]:
    """The upper and the lower part of a body, the moving one displaced."""
    for seed, part in enumerate(("abdomen", "chest")):
        values, affine = coarser(*load(f"ct_body/{part}_ct"))
        count, overlap = values.shape[2], round(_OVERLAP_MM / affine[2, 2])
        half = (count + overlap) // 2
        ends = {"lower": slice(0, half), "upper": slice(count - half, count)}
        for number, (fixed, moving) in enumerate(permutations(ends, 2)):
            images = [cropped(values, affine, ends[end]) for end in (fixed, moving)]
            name = f"{part}, {fixed} <- {moving}"
            yield displaced(name, images[0], images[1], 10 * seed + number)


def strangers() -> Iterator[NamedPair]:
    """The abdomen of one person and the chest of another."""
    images = {
        part: LabelledImage(*coarser(*load(f"ct_body/{part}_ct"))) for part in ("abdomen", "chest")
    }
    for fixed, moving in permutations(images, 2):
        yield NamedPair(f"{fixed} <- {moving}", images[fixed], images[moving])


def templates() -> Iterator[NamedPair]:
    """Templates of PET, SPECT and MR in one space, the moving one displaced."""
    for seed, (fixed, moving) in enumerate(TEMPLATES):
        values, affine = load(f"pet_mr_templates/{fixed}")
        mask = load("pet_mr_templates/brainmask")[0] > _BRAIN
        still = LabelledImage(values, affine, mask=mask)
        moved = LabelledImage(*load(f"pet_mr_templates/{moving}"))
        yield displaced(f"{fixed} <- {moving}", still, moved, seed)


def abdomens() -> Iterator[NamedPair]:
    """CT and MR of two people."""
    yield from renamed(bodies.abdomen(None))


def lungs() -> Iterator[NamedPair]:
    """Three of the ordered pairs of people."""
    yield from islice(renamed(bodies.lungs(None)), 0, None, 2)


def livers() -> Iterator[NamedPair]:
    """Two other states of breathing of each volunteer."""
    for person, states in LIVERS.items():
        for state in states:
            yield NamedPair(f"{person} {state}", *liver_pair(person, state))


def liver_pair(person: str, state: str) -> tuple[LabelledImage, LabelledImage]:
    """Exhalation as the fixed image and another state, with the corrected header."""
    folder = f"liver_mr_breathing/{person}"
    rows = read_rows(data_path(f"{folder}/landmarks_exhMaster_{state}.csv"))
    affine = load(f"{folder}/exhMaster")[1]
    images = []
    for role, file in (("fixed", "exhMaster"), ("moving", state)):
        points = numbers(rows, [f"{role}_{axis}" for axis in "xyz"]) * [-1, -1, 1]
        inside = np.array([row["where"] == "liver" for row in rows])
        parts = {"inside": points[inside], "outside": points[~inside]}
        values = load(f"{folder}/{file}")[0]
        images.append(LabelledImage(values, affine, points_mm=points, parts_mm=parts))
    return images[0], images[1]


def sliding_lungs() -> Iterator[NamedPair]:
    """See `scripts.bench.studies.sliding`."""
    for seed, person in enumerate(LUNGS):
        for sink_mm in (15.0, 25.0):
            pair = sliding.sliding_pair(person, sink_mm, 150.0, seed)
            yield NamedPair(f"{person} {sink_mm:g} mm", *pair)


def sliding_bodies() -> Iterator[NamedPair]:
    """See `scripts.bench.studies.sliding_body`; every second voxel across the body."""
    for seed, part in enumerate(("abdomen", "chest")):
        values, affine = coarser(*load(f"ct_body/{part}_ct"))
        body = LabelledImage(values, affine, sliding_body.content_of(values, affine))
        for sink_mm in (20.0, 35.0):
            pair = sliding.slid_pair(body, sink_mm, 120.0, seed)
            yield NamedPair(f"{part} {sink_mm:g} mm", *pair)


def renamed(found: Iterator[bodies.NamedPair]) -> Iterator[NamedPair]:
    """Pairs of the study of bodies."""
    for fixed, moving, images in found:
        yield NamedPair(f"{fixed} <- {moving}", *images)


def displaced(name: str, fixed: LabelledImage, moving: LabelledImage, seed: int) -> NamedPair:
    """Two images that are aligned, the moving one then displaced by its header."""
    draws = np.random.default_rng(seed)
    size = [_TURN_RAD] * 3 + [_SHIFT_MM] * 3
    parameters = torch.from_numpy(draws.uniform(-1, 1, 6) * size)
    grid = Grid(fixed.values.shape, torch.from_numpy(fixed.affine))
    truth = Rigid(parameters, grid.centre_mm)
    affine = truth.matrix.numpy() @ moving.affine
    return NamedPair(name, fixed, LabelledImage(moving.values, affine), truth)


def coarser(values: NDArray[Any], affine: Floats) -> tuple[NDArray[Any], Floats]:
    """Means of two by two voxels of each slice."""
    even = values[: values.shape[0] // 2 * 2, : values.shape[1] // 2 * 2].astype(np.float32)
    halved = (even[::2] + even[1::2]) / 2
    return (halved[:, ::2] + halved[:, 1::2]) / 2, affine @ half_voxel()


def half_voxel() -> Floats:
    """Indices of voxels from those of pairs of voxels along the first two axes."""
    matrix = np.diag([2.0, 2.0, 1.0, 1.0])
    matrix[:2, 3] = 0.5
    return matrix


def cropped(values: NDArray[Any], affine: Floats, slices: slice) -> LabelledImage:
    """Some slices of an image."""
    origin = in_mm(np.array([[0.0, 0.0, slices.start]]), affine)[0]
    moved = affine.copy()
    moved[:3, 3] = origin
    return LabelledImage(values[:, :, slices], moved)


def in_mm(voxels: Floats, affine: Floats) -> Floats:
    """``(N, 3)`` points from indices of voxels."""
    return voxels @ affine[:3, :3].T + affine[:3, 3]


def data_path(name: str) -> Path:
    """A file of the shared data."""
    return existing(paths.SHARED / "data" / name)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> Floats:
    """Columns of a table as an array."""
    return np.array([[float(row[column]) for column in columns] for row in rows])
