"""The examples of docs/quality.md: right and wrong registrations, and their measures.

    python -m scripts.bench quality_examples run

The table is copied to docs/quality.md; a test compares both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import stn3d
from scripts.bench import pages, paths
from scripts.bench.machine import machine
from scripts.bench.options import RunOptions, command_line
from scripts.bench.paths import existing
from scripts.bench.store import Row, Store, read
from stn3d import read_image
from stn3d.grid import Grid
from stn3d.registration.quality_criteria import CRITERIA
from stn3d.registration.quality_measures import QualityMeasures
from stn3d.transforms import Translation

ABOUT = """\
Registrations that are right and registrations that are meant to fail, and what the quality check
makes of them; the measure that decided is in bold."""
Volume = tuple[Tensor, Grid]


class Example(NamedTuple):
    """A registration.

    Args:
        name: what it is, in the table.
        fixed: path of the fixed image below shared/data.
        moving: path of the moving image; empty for noise.
        options: keyword arguments of `stn3d.register`.
        change: what is done to the moving image before.
        start: where the centre of the fixed image begins, relative to that of the moving image, in
            units of the latter's size; None for the automatic initial transform.
    """

    name: str
    fixed: str
    moving: str
    options: dict[str, Any]
    change: Callable[[Volume], Volume] = lambda volume: volume
    start: tuple[float, ...] | None = None


def larger_voxels(factor: float) -> Callable[[Volume], Volume]:
    """An image whose header states voxels that are too large by a factor."""

    def changed(volume: Volume) -> Volume:
        matrix = volume[1].world_from_index.clone()
        matrix[:-1, :-1] *= factor
        return volume[0], Grid(volume[1].shape, matrix)

    return changed


def mirrored(volume: Volume) -> Volume:
    """The voxels reversed along the axis nearest to left-right, on the same grid."""
    axis = int(volume[1].world_from_index[0, :-1].abs().argmax())
    return volume[0].flip(axis), volume[1]


ONE, TWO = "brains/1000_t1.nii.gz", "brains/1001_t1.nii.gz"
T1, T2 = "contrasts/p07_t1.nii.gz", "contrasts/p07_t2.nii.gz"
CHEST, ABDOMEN = "ct_body/chest_ct.nii.gz", "ct_body/abdomen_ct.nii.gz"
FETUS = "fetal_atlas/fetal_SB_atlas_GA{}/srr.nii.gz"
NOISY = {
    "factors": [4, 2, 1],
    "iterations": [100, 100, 100],
    "field_sigma_vox": 0,
    "update_sigma_vox": 0.5,
    "tolerance": 1e-9,
}
TEMPLATES = "ct_mr/scct.nii.gz", "ct_mr/mni152_t1_2mm.nii.gz"
FAST, RIGID, AFFINE = {"preset": "fast"}, {"kind": "rigid"}, {"kind": "affine"}
EXAMPLES = (
    Example("brains 1000 <- 1001, defaults", ONE, TWO, {}),
    Example("one person, T1 <- T2 (rigid selected)", T1, T2, {}),
    Example("CT template <- MR template, `--kind affine`", *TEMPLATES, AFFINE),
    Example(
        "lungs of two people, MR, `--preset fast`",
        *("lung_mr/0004.nii.gz", "lung_mr/0006.nii.gz"),
        FAST,
    ),
    Example(
        "chest CT <- abdomen CT of another person, `--kind rigid`, initial transform with half "
        "overlap",
        *(CHEST, ABDOMEN, RIGID),
        start=(0, 0, 0.5),
    ),
    Example(
        "brains 1000 <- 1001, `--kind rigid`, initial transform half a brain off",
        *(ONE, TWO, RIGID),
        start=(0, 0.5, 0),
    ),
    Example(
        "fetal brains, week 21 <- week 27, `--preset fast`",
        *(FETUS.format("21_notoperated"), FETUS.format("27_operated"), FAST),
    ),
    Example("a brain and its mirror image, `--kind affine`", ONE, ONE, AFFINE, mirrored),
    Example(
        "brains 1000 <- 1001, the latter mirrored, `--kind affine`", ONE, TWO, AFFINE, mirrored
    ),
    Example(
        "brains, moving voxel size wrong by 1.45, `--kind affine`",
        *(ONE, TWO, AFFINE, larger_voxels(1.45)),
    ),
    Example(
        "brains, `--metric mse`, many iterations without smoothing of the field",
        *(ONE, TWO, {"kind": "deformable", "metric": "mse", "config": {"deformable": NOISY}}),
    ),
    Example(
        "brains, moving voxel size wrong by 1.7, `--kind affine`",
        *(ONE, TWO, AFFINE, larger_voxels(1.7)),
    ),
    Example(
        "abdomen CT <- MR slab of another person, `--preset fast`",
        *("abdomen/ct.nii.gz", "abdomen/mr.nii.gz", FAST),
    ),
    Example("chest CT <- abdomen CT of another person, `--kind affine`", CHEST, ABDOMEN, AFFINE),
    Example("brain <- abdomen CT, `--preset fast`", ONE, "abdomen/ct.nii.gz", FAST),
    Example(
        "chest CT <- abdomen CT, `--kind rigid`, initial transform beside the body",
        *(CHEST, ABDOMEN, RIGID),
        start=(0.75, 0, 0),
    ),
    Example("brain <- noise, `--kind rigid`", ONE, "", RIGID),
)


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the study."""


def run(options: Options) -> None:
    """Run the examples that were not run yet, then report."""
    torch.set_num_threads(options.threads)
    text = command_line("quality_examples", options)
    store = Store(options.out, "quality_examples", ("name",), {"machine": machine()}, command=text)
    examples = {one.name: one for one in EXAMPLES}
    store.measure(
        [{"name": name} for name in examples], lambda row: measured(examples[row["name"]])
    )
    report(options.out)


def volume(name: str) -> Volume:
    """An image of the shared data, ``shape`` and its grid; noise without a name."""
    if not name:
        generator = torch.Generator().manual_seed(0)
        return torch.rand(90, 100, 90, generator=generator), Grid.of_spacing((90, 100, 90), 2)
    image = read_image(existing(paths.SHARED / "data" / name))
    return image.values[0, 0], image.grid


def measured(example: Example) -> Row:
    """Register an example."""
    fixed, moving = volume(example.fixed), example.change(volume(example.moving))
    options = dict(example.options)
    if example.start is not None:
        size_mm = torch.tensor(moving[1].size_mm, dtype=torch.float64)
        offset_mm = torch.tensor(example.start, dtype=torch.float64) * size_mm
        offset_mm += moving[1].centre_mm - fixed[1].centre_mm
        options["init"] = Translation(offset_mm, fixed[1].centre_mm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"quality": stn3d.register(fixed, moving, **options).metrics["quality"]}


# -- the page -------------------------------------------------------------------------------------

COLUMNS = {
    "restart_disagreement_fraction": "restart disagreement",
    "similarity_margin_sd": "margin, SD",
    "foreground_inside_fraction": "foreground inside",
    "max_affine_scale": "affine scale",
    "mirror_advantage_fraction": "mirror advantage",
    "content_volume_factor": "content volume",
    "folding_pct": "folding, %",
    "abs_log_jacobian_p999": "log-Jacobian, p999",
}
DIGITS = (3, 1, 2, 2, 3, 2, 2, 2)


def report(folder: Path) -> None:
    """Write README.md."""
    results = read(folder)
    lines = ["# Examples of the quality check", "", *pages.command(results), ABOUT, ""]
    pages.write_page(folder, [*lines, *pages.conditions(results), *table(results.rows)])


def table(rows: list[Row]) -> list[str]:
    """The lines of the table."""
    head = ["fixed <- moving, options", "status", *COLUMNS.values()]
    return pages.table(
        [head, *([row["name"], row["quality"]["status"], *cells(row)] for row in rows)]
    )


def cells(row: Row) -> list[str]:
    """The measures; the one that decided is in bold."""
    measures, status = QualityMeasures(**row["quality"]["measures"]), row["quality"]["status"]
    decided = [one.measure for one in CRITERIA if one.exceeded(measures, status)][:1]
    found = []
    for name, digits in zip(COLUMNS, DIGITS, strict=True):
        value = getattr(measures, name)
        text = "" if value is None else f"{value:.{digits}f}"
        if name == "restart_disagreement_fraction" and value is not None:
            text += f" ({measures.restart_disagreement_mm:.1f} mm)"
        found.append(f"**{text}**" if decided == [name] else text)
    return found
