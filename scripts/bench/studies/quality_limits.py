"""Measures of the quality check on many kinds of images, to choose its limits and to test them.

    python -m scripts.bench quality_limits run [--part 0 --parts 2] [--merge FOLDER]

Every pair is registered twice: as it is, with the defaults, and with left and right of the moving
image exchanged. The limits of mirrored images, volume changes and landmarks were chosen with some
kinds of images and tested on the others.
"""

from __future__ import annotations

import csv
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
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
from stn3d import Affine, InputError, Transform, read_image
from stn3d.grid import Grid, apply_matrix
from stn3d.io import Image
from stn3d.registration.quality_criteria import AS_WELL_MIRRORED, CRITERIA
from stn3d.transforms import split_linear

ABOUT = """\
Every pair of shared/data is registered with the defaults, and again, by an affine transform and the
preset `fast`, with the voxels of the moving image reversed along its left-right axis, as a wrong
header would. Landmarks are points that experts marked or, where there are label maps, the centroids
of structures that both images show; they are not used in the registration. Errors are fractions of
the image size. The limits were chosen with the first kinds of images and tested on the held-out
ones. Whether a pair is registered well is not known from a true transform here; abdomen, prostate
and some lungs are known to fail."""
KEYS = ("pair", "mirrored")
CHOSEN_WITH, HELD_OUT = "chosen with", "held out"
LEAST_VOXELS = 50  # of a structure whose centroid is a landmark


class Pair(NamedTuple):
    """Two images below shared/data.

    Args:
        kind: kind of images.
        use: what the pair is used for.
        fixed: path of the fixed image.
        moving: path of the moving image.
        labels: paths of both label maps, whose centroids are landmarks, or of one table of points.
    """

    kind: str
    use: str
    fixed: str
    moving: str
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Both paths."""
        return f"{self.fixed} <- {self.moving}"


def chosen_with() -> Iterator[Pair]:
    """Pairs that the limits were chosen with."""
    people = ("1000", "1001", "1007", "1036", "1006", "1013")
    for a, b in zip(people, (*people[1:], people[0]), strict=True):
        yield _labelled(
            "brains", CHOSEN_WITH, "brains/{}_t1.nii.gz", "brains/{}_labels.nii.gz", a, b
        )
    for a, b in permutations("ab"):
        pattern = "aseg_pair/{}_t1.nii.gz", "aseg_pair/{}_labels.nii.gz"
        yield _labelled("two brains, aligned", CHOSEN_WITH, *pattern, a, b)
    for b in ("t2", "flair", "t1post"):
        yield _pair("contrasts of one person", CHOSEN_WITH, "contrasts/p07_{}.nii.gz", "t1", b)
    templates = ("scct", "mni152_t1_2mm", "single_subj_T1", "avg152T2")
    for a, b in zip(templates, (*templates[1:], templates[0]), strict=True):
        yield _pair("CT and MR templates", CHOSEN_WITH, "ct_mr/{}.nii.gz", a, b)
    for a, b in permutations(("ct", "mr")):
        yield _pair("abdomen of two people", CHOSEN_WITH, "abdomen/{}.nii.gz", a, b)
    folder = "fetal_atlas/fetal_SB_atlas_GA{}"
    ages = ("21_notoperated", "23_notoperated", "25_operated", "27_operated", "31_operated")
    for a, b in zip(ages[1:], ages, strict=False):
        pattern = f"{folder}/srr.nii.gz", f"{folder}/lmks.nii.gz"
        yield _labelled("fetal brains", CHOSEN_WITH, *pattern, a, b)
    for a, b in ("12", "23", "34", "41"):
        labels = "mouse_brains/{}/FVB_NCrl_in_vivo_{{}}.nii.gz"
        image, labels = labels.format("template"), labels.format("label")
        yield _labelled("mouse brains", CHOSEN_WITH, image, labels, a, b)


def held_out() -> Iterator[Pair]:
    """Pairs of other kinds, which the limits were tested on."""
    for a, b in (("0004", "0006"), ("0006", "0007"), ("0007", "0004"), ("0006", "0004")):
        pattern = "lung_mr/{}.nii.gz", "lung_mr/{}_lobes.nii.gz"
        yield _labelled("lungs", HELD_OUT, *pattern, a, b)
    for person, state in (("18", "1_10"), ("18", "3_10"), ("23", "1_4"), ("23", "5_4")):
        folder = f"liver_mr_breathing/dataset{person}"
        names = f"{folder}/exhMaster.nii.gz", f"{folder}/cyc_{state}.nii.gz"
        points = f"{folder}/landmarks_exhMaster_cyc_{state}.csv"
        yield Pair("breathing liver", HELD_OUT, *names, (points,))
    for a, b in (("T1", "T2"), ("T1", "PET"), ("T2", "EPI"), ("PD", "SPECT")):
        yield _pair("PET and MR templates", HELD_OUT, "pet_mr_templates/{}.nii.gz", a, b)
    for b in ("FLAIR_MICCAI2017", "T1w2mm", "T2w", "fmri"):
        names = "ct_mr/mni152_t1_2mm.nii.gz", f"head_natives/inputs/{b}.nii.gz"
        yield Pair("whole heads and a template", HELD_OUT, *names)
    for modality in ("T1W", "T2W", "FLAIR"):
        image = f"ms_longitudinal/patient01/study{{}}_{modality}.nii.gz"
        yield _pair("two visits of a patient", HELD_OUT, image, "1", "2")
    yield _pair("chest and abdomen", HELD_OUT, "ct_body/{}_ct.nii.gz", "abdomen", "chest")
    for case in (0, 1, 3, 4):
        pattern = f"prostate/case{case}_{{}}.nii.gz", f"prostate/case{case}_{{}}_labels.nii.gz"
        yield _labelled("prostates, MR and ultrasound", HELD_OUT, *pattern, "mr", "us")


def _pair(kind: str, use: str, image: str, a: str, b: str) -> Pair:
    return Pair(kind, use, image.format(a), image.format(b))


def _labelled(kind: str, use: str, image: str, labels: str, a: str, b: str) -> Pair:
    fixed, moving = image.format(a), image.format(b)
    return Pair(kind, use, fixed, moving, (labels.format(a), labels.format(b)))


# -- landmarks ------------------------------------------------------------------------------------


def landmarks(pair: Pair) -> tuple[Tensor, Tensor]:
    """``(N, 3)`` fixed and moving landmarks, world RAS+ mm; none where the pair has none."""
    if len(pair.labels) == 1:
        return _points(data(pair.labels[0]))
    if not pair.labels:
        return torch.zeros(0, 3), torch.zeros(0, 3)
    fixed, moving = (centroids(data(path), "lmks" in path) for path in pair.labels)
    common = sorted(fixed.keys() & moving.keys())
    return (torch.stack([found[key] for key in common]) for found in (fixed, moving))  # type: ignore[return-value]


def centroids(path: Path, points: bool) -> dict[int, Tensor]:
    """The centroid of each label, or of each volume of a 4D file; single voxels only of points."""
    import nibabel as nib

    file: Any = nib.load(path)
    values = torch.tensor(file.get_fdata()).round().long()
    affine = torch.tensor(file.affine, dtype=torch.float64)
    if values.ndim == 4:  # a structure for each volume
        values = values.clamp(0, 1) * torch.arange(1, values.shape[-1] + 1)
    at = values.nonzero()
    keys, which, counts = torch.unique(values[tuple(at.T)], return_inverse=True, return_counts=True)
    sums = torch.zeros(len(keys), 3, dtype=torch.float64).index_add_(0, which, at[:, :3].double())
    means = apply_matrix(affine, sums / counts[:, None])
    least = 1 if points else LEAST_VOXELS
    found = zip(keys.tolist(), means, counts.tolist(), strict=True)
    return {key: mean for key, mean, count in found if count >= least}


def _points(path: Path) -> tuple[Tensor, Tensor]:
    """Points of the breathing livers, from ITK's LPS."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
    return tuple(  # type: ignore[return-value]
        flip * torch.tensor([[float(row[f"{role}_{axis}"]) for axis in "xyz"] for row in rows])
        for role in ("fixed", "moving")
    )


def data(name: str) -> Path:
    """A file of the shared data."""
    return existing(paths.SHARED / "data" / name)


# -- measurement ----------------------------------------------------------------------------------


def mirrored(image: Image) -> tuple[Tensor, Grid]:
    """The voxels reversed along the axis nearest to left-right, on the same grid."""
    axis = int(image.grid.world_from_index[0, :-1].abs().argmax())
    return image.values.flip(2 + axis)[0, 0], image.grid


def measured(pair: Pair, mirror: bool) -> Row:
    """Register a pair: status, measures, errors at landmarks."""
    begin = time.perf_counter()
    fixed, moving = (read_image(data(name)) for name in (pair.fixed, pair.moving))
    options: dict[str, Any] = {"kind": "affine", "preset": "fast"} if mirror else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = stn3d.register(fixed, mirrored(moving) if mirror else moving, **options)
    except InputError as error:
        return {"refused": str(error)}
    quality = found.metrics["quality"]
    row: Row = {"kind": pair.kind, "use": pair.use, "status": quality["status"]}
    row |= {"reason": quality["reason"], "measures": quality["measures"]}
    if not mirror:
        row["landmarks"] = errors(pair, found.transform, fixed.grid, moving.grid)
    return row | {"wall_s": round(time.perf_counter() - begin, 1)}


def errors(pair: Pair, found: Transform, fixed: Grid, moving: Grid) -> Row | None:
    """Mean and largest error at the landmarks as fractions of the image size: before, after the
    linear part, and of the result."""
    at, expected = landmarks(pair)
    if not len(at):
        return None
    size_mm = min(max(grid.size_mm) for grid in (fixed, moving))
    _, linear = split_linear(found)
    ways = {"before": Affine.identity(3), "linear": linear or found, "result": found}
    row: Row = {"count": len(at)}
    for name, way in ways.items():
        distances = torch.linalg.vector_norm(way(at) - expected, dim=-1) / size_mm
        row[name] = {"mean": float(distances.mean()), "max": float(distances.max())}
    return row


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""

    part: int = option(0, "which part of the pairs to measure, from 0")
    parts: int = option(1, "number of parts that the pairs are divided into")
    merge: Path | None = option(None, "folder of further rows to add")


def run(options: Options) -> None:
    """Register the pairs that are not registered yet, then report."""
    torch.set_num_threads(options.threads)
    text = command_line("quality_limits", replace(options, part=0, parts=1, merge=None))
    store = Store(options.out, "quality_limits", KEYS, {"machine": machine()}, command=text)
    if options.merge is not None:
        for row in read(options.merge).rows:
            store.add(row, show=False)
    pairs = {pair.name: pair for pair in (*chosen_with(), *held_out())}
    wanted = [{"pair": name, "mirrored": mirror} for name in pairs for mirror in (False, True)]
    part = wanted[options.part :: options.parts]
    store.measure(part, lambda row: measured(pairs[row["pair"]], row["mirrored"]))
    report(options.out)


# -- the page -------------------------------------------------------------------------------------


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    rows = [row for row in results.rows if "refused" not in row]
    if not rows:
        raise SystemExit(f"{folder} holds no rows; run the study first.")
    lines = ["# Measures of the quality check on many kinds of images", ""]
    lines += [*pages.command(results), ABOUT, "", *pages.conditions(results)]
    for title, table in TABLES.items():
        lines += [f"## {title}", "", *pages.table(table(rows)), ""]
    pages.write_page(folder, lines)


def grouped(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each kind of images, in the order of the pairs."""
    kinds = dict.fromkeys((pair.use, pair.kind) for pair in (*chosen_with(), *held_out()))
    found = {key: [row for row in rows if (row["use"], row["kind"]) == key] for key in kinds}
    return {key: part for key, part in found.items() if part}


def limit(measure: str) -> float:
    """The limit from which the status is ``check``."""
    return next(one.check for one in CRITERIA if one.measure == measure)


def volumes(rows: Sequence[Row]) -> list[list[str]]:
    """Volume changes of the results; the first line is the header."""
    table = [["use", "images", "pairs", "p999: median", "largest", "largest of one voxel", "above"]]
    for (use, kind), part in grouped([row for row in rows if not row["mirrored"]]).items():
        p999 = [row["measures"]["abs_log_jacobian_p999"] for row in part]
        voxel = max(row["measures"]["max_abs_log_jacobian"] for row in part)
        above = sum(value > limit("abs_log_jacobian_p999") for value in p999)
        middle = pages.percentile(p999, 0.5)
        cells = [f"{len(part)}", f"{middle:.2f}", f"{max(p999):.2f}", f"{voxel:.1f}", f"{above}"]
        table.append([use, kind, *cells])
    return table


def mirrors(rows: Sequence[Row]) -> list[list[str]]:
    """Advantages of the mirrored image; the first line is the header."""
    table = [["use", "images", "moving image", "pairs", "lowest", "median", "highest", "warned"]]
    for (use, kind), part in grouped(rows).items():
        for mirror in (False, True):
            mine = [row["measures"] for row in part if row["mirrored"] == mirror]
            values = [one["mirror_advantage_fraction"] for one in mine]
            known = [value for value in values if value is not None]
            warned = sum(value > AS_WELL_MIRRORED for value in known)
            three = [min(known), pages.percentile(known, 0.5), max(known)] if known else []
            cells = [f"{value:.3f}" for value in three] or ["", "", ""]
            what = "mirrored" if mirror else "as it is"
            table.append([use, kind, what, f"{len(values)}", *cells, f"{warned}"])
    return table


def distances(rows: Sequence[Row]) -> list[list[str]]:
    """Errors at landmarks; the first line is the header."""
    head = ["use", "images", "pair", "status", "landmarks"]
    ways = ("before", "linear", "result")
    head += [f"{way}: {what}, %" for what in ("mean", "largest") for way in ways]
    table = [head]
    for (use, kind), part in grouped([row for row in rows if row.get("landmarks")]).items():
        for row in part:
            found = row["landmarks"]
            cells = [f"{100 * found[way][what]:.1f}" for what in ("mean", "max") for way in ways]
            table.append([use, kind, row["pair"], row["status"], f"{found['count']}", *cells])
    return table


TABLES = {
    "Volume changes": volumes,
    "Left and right exchanged": mirrors,
    "Errors at landmarks": distances,
}
